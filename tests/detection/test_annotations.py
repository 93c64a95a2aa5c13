"""Annotation files: a good one passes, and every mistake is one line that names it. Needs no detectron2."""

import copy
import json

import pytest

from fbnetv3 import InputError
from fbnetv3.detection.annotations import check_annotations
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
    check_annotations(path, images)


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


def test_a_file_without_crowds_and_areas_is_good(tmp_path, images):
    data = copy.deepcopy(GOOD)
    for row in data["annotations"]:
        del row["iscrowd"], row["area"]
    check(tmp_path, data, images)


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
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_a_mistake_is_one_line(tmp_path, images, content, words):
    with pytest.raises(InputError) as error:
        check(tmp_path, content, images)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_not_exist_is_named(tmp_path, images):
    with pytest.raises(InputError, match=r"no annotation file .*no.json; give the path"):
        check_annotations(tmp_path / "no.json", images)
    with pytest.raises(InputError, match=r"no image folder .*nowhere"):
        check(tmp_path, GOOD, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none of the images of data.json is in "):
        check(tmp_path, GOOD, tmp_path)
