"""Annotation files: a good one passes, and every mistake is one line that names it. Needs no detectron2."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.detection.annotations import read_annotations
from tests.detection import coco_data

GOOD = coco_data.description()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An image folder with one of the images; its content does not matter."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "p3.png").touch()
    return folder


def check(tmp_path, content, images):
    path = tmp_path / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path, images)


def changed(**changes):
    """The good file with one key changed: `annotations={"bbox": ...}` changes the last annotation."""
    data = copy.deepcopy(GOOD)
    for key, value in changes.items():
        if isinstance(value, dict):
            data[key][-1] |= value
            data[key][-1] = {name: v for name, v in data[key][-1].items() if v != "absent"}
        else:
            data[key] = value
    return data


def test_one_image_of_a_good_file_is_enough(tmp_path, images):
    check(tmp_path, GOOD, images)


def test_a_file_without_annotations_is_good(tmp_path, images):
    check(tmp_path, changed(annotations=[]), images)


def test_crowds_and_areas_are_filled_in(tmp_path, images):
    data = copy.deepcopy(GOOD)
    for row in data["annotations"]:
        del row["iscrowd"], row["area"]
    data["annotations"][0] |= {"iscrowd": None, "area": None}
    assert check(tmp_path, data, images) == GOOD  # its areas are width times height
    data["annotations"][0] |= {"iscrowd": 1, "area": 5}
    first = check(tmp_path, data, images)["annotations"][0]
    assert (first["iscrowd"], first["area"]) == (1, 5)


def test_a_byte_order_mark_does_no_harm(tmp_path, images):
    assert check(tmp_path, "\ufeff" + json.dumps(GOOD), images) == GOOD


@pytest.mark.parametrize(
    ("value", "stays"),
    [
        ([[1, 2, 3, 4, 5, 6]], True),
        ([[1, 2, 3, 4, 5, 6], [1]], True),
        ([[1, 2, 3, 4]], False),
        ([1, 2, 3, 4, 5, 6], False),
        ("polygon", False),
        ({"counts": [0, 6144], "size": [96, 64]}, True),
        ({"counts": "04P", "size": [96, 64]}, True),
        ({"counts": [0, -1], "size": [96, 64]}, False),
        ({"counts": [0, 6144]}, False),
        ({"size": [96, 64]}, False),
        ({"counts": [0, 6144], "size": [96, 64.5]}, False),
    ],
)
def test_a_malformed_segmentation_is_removed(tmp_path, images, value, stays, caplog):
    found = check(tmp_path, changed(annotations={"segmentation": value}), images)
    assert ("segmentation" in found["annotations"][-1]) == stays
    assert ("1 segmentations or keypoints are malformed, the first of annotation 12" in caplog.text) == (not stays)


def test_boxes_outside_of_their_images_are_counted(tmp_path, images, caplog):
    for box in ([64, 0, 1, 1], [0, 80, 1, 1], [-9, 0, 9, 9], [0, -9, 9, 9]):
        caplog.clear()
        check(tmp_path, changed(annotations={"bbox": box}), images)  # the last image has 64 x 80 pixels
        assert "1 boxes are outside of their images, the first is that of annotation 12; nothing can be" in caplog.text
    caplog.clear()
    check(tmp_path, changed(annotations={"bbox": [63, 79, 9, 9]}), images)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "data.json is no annotation file in COCO's format, or is damaged: "),
        ("[]", "lacks 'images'"),
        (changed(categories=[]), "lacks 'categories'"),
        (changed(images="none"), "lacks 'images'"),
        (changed(images={"width": "absent"}), "an entry of 'images' lacks 'width'"),
        (changed(images=[1]), "an entry of 'images' lacks 'id'"),
        (changed(images={"id": 10}), "several entries of 'images' have the same id"),
        (changed(categories={"id": 3}), "several entries of 'categories' have the same id"),
        (changed(annotations={"id": 1}), "several entries of 'annotations' have the same id"),
        (changed(annotations={"bbox": "absent"}), "an entry of 'annotations' lacks 'bbox'"),
        (changed(annotations={"category_id": 4}), "annotation 12 has category 4, which is not among the 2"),
        (changed(annotations={"image_id": 4}), "annotation 12 is of image 4, which the file does not list"),
        (changed(annotations={"bbox": [1, 2, 3]}), "annotation 12 has the box [1, 2, 3]; allowed: four numbers, x, y"),
        (changed(annotations={"bbox": [1, 2, -3, 4]}), "annotation 12 has the box [1, 2, -3, 4]"),
        (changed(annotations={"bbox": [float("nan"), 2, 3, 4]}), "annotation 12 has the box [nan, 2, 3, 4]"),
        (changed(annotations={"bbox": ["a", 2, 3, 4]}), "annotation 12 has the box ['a', 2, 3, 4]"),
        (changed(annotations={"bbox": None}), "annotation 12 has the box None"),
        (changed(annotations={"bbox": [1, 2, 3, 10**400]}), "annotation 12 has the box [1, 2, 3, a whole number of"),
        (changed(annotations={"iscrowd": "0"}), "annotation 12 has iscrowd '0'; allowed: 0 and 1"),
        (changed(annotations={"iscrowd": [0]}), "annotation 12 has iscrowd [0]"),
        (changed(annotations={"area": "9"}), "annotation 12 has the area '9'; allowed: a number, or leave it out"),
        (changed(annotations={"area": float("nan")}), "annotation 12 has the area nan"),
        (changed(annotations={"ignore": 1}), 'annotation 12 has the key "ignore"'),
        (changed(annotations={"id": [1]}), "id of annotation is [1]; allowed: a number or a text"),
        (changed(annotations={"image_id": {}}), "image_id of annotation 12 is {}; allowed: a number or a text"),
        (changed(annotations={"category_id": None}), "category_id of annotation 12 is None"),
        (changed(images={"width": "64"}), "width of image 15 is '64'; allowed: a number"),
        (changed(images={"height": None}), "height of image 15 is None; allowed: a number"),
        (changed(images={"height": float("inf")}), "height of image 15 is inf; allowed: a number"),
        (changed(images={"file_name": 7}), "file_name of image 15 is 7; allowed: a text"),
        (changed(images={"id": "a"}), "some ids of 'images' are numbers and some are texts"),
        (changed(annotations={"category_id": "x" * 1000}), "has category 'xxx"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_a_mistake_is_one_line(tmp_path, images, content, words):
    with pytest.raises(InputError) as error:
        check(tmp_path, content, images)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_what_does_not_exist_is_named(tmp_path, images):
    with pytest.raises(InputError, match=r"no annotation file .*no.json; give the path"):
        read_annotations(tmp_path / "no.json", images)
    with pytest.raises(InputError, match=r"no image folder .*nowhere"):
        check(tmp_path, GOOD, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none of the images of data.json is in "):
        check(tmp_path, GOOD, tmp_path)


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2,
        0.5,
        10**400,
        1e308,
        math.nan,
        math.inf,
        "",
        "1",
        "0" * 500,
        [],
        [1],
        {},
        {"id": 1},
        [[1, 2]],
    ]
)
KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "ignore"),
}
PLACES = st.sampled_from([(name, key) for name, keys in KEYS.items() for key in keys])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(PLACES, st.integers(0, 5), ODD | st.lists(ODD, max_size=4)), min_size=1, max_size=3))
def test_no_value_gives_anything_but_annotations_or_one_line(tmp_path, images, changes):
    content = copy.deepcopy(GOOD)
    for (name, key), row, value in changes:
        content[name][row % len(content[name])][key] = value
    found, message = {"annotations": []}, ""
    try:
        found = check(tmp_path, content, images)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 500
    for row in found["annotations"]:
        assert all(isinstance(value, int | float) and abs(value) < math.inf for value in (*row["bbox"], row["area"]))
        assert row["iscrowd"] in (0, 1)
