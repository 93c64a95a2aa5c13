"""Data of detectors: batches that depend on (seed, step) alone, pictures that cannot be read, files that are refused."""

import itertools
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.data import DatasetMapper

from fbnetv3 import InputError
from fbnetv3.detection import data as coco
from fbnetv3.detection.data import Steps, data_name, epoch_batches, load_records, read_steps, with_boxes
from fbnetv3.training.process_rank import Share
from tests.detection import coco_data


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 99))
def test_a_pass_has_every_picture_at_most_once_and_mixes_only_what_is_left(landscape, batch, seed):
    shape = np.array(landscape)
    batches = epoch_batches(shape, batch, np.random.default_rng(seed))
    assert len(batches) == len(shape) // batch
    assert all(len(one) == batch for one in batches)
    seen = [int(i) for one in batches for i in one]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(len(shape)))
    mixed = sum(0 < shape[one].sum() < batch for one in batches)
    wide = int(shape.sum())
    assert mixed <= (wide % batch + (len(shape) - wide) % batch) // batch <= 1


def test_passes_differ_and_leave_no_picture_out_for_ever():
    passes = [epoch_batches(np.arange(7) % 2 == 0, 3, np.random.default_rng([0, epoch])) for epoch in range(20)]
    assert len({str(batches) for batches in passes}) == 20
    assert {int(i) for batches in passes for one in batches for i in one} == set(range(7))


ALONE = Share()


def steps(folder, pair, share=ALONE, seed=0, batch=2, count=8, name=None):
    name = data_name(folder / "data.json", folder / "pictures") if name is None else name
    mapper = DatasetMapper(coco_data.config(folder, pair), True)
    return Steps(load_records(name), mapper, batch, seed, count, share)


def same(a, b):
    """The same pictures, pixels and boxes."""
    return len(a) == len(b) and all(
        x["file_name"] == y["file_name"]
        and torch.equal(x["image"], y["image"])
        and torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor)
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_a_function_of_seed_and_step(data, pair):
    whole = list(read_steps(steps(data, pair), 0, 0))
    assert len(whole) == 8
    later = list(read_steps(steps(data, pair), 5, 0))
    assert all(same(a, b) for a, b in zip(whole[5:], later, strict=True))
    fresh = steps(data, pair)
    assert all(same(fresh[i], whole[i]) for i in (7, 0, 3))
    others = steps(data, pair, seed=1)
    assert not all(same(others[i], whole[i]) for i in range(8))
    # Three batches are a pass over six pictures; a picture is cropped and turned anew in the next one.
    for turn in range(2):
        assert len({r["file_name"] for batch in whole[3 * turn : 3 * turn + 3] for r in batch}) == 6
    by_name = {r["file_name"]: r["image"] for batch in whole[:3] for r in batch}
    assert any(not torch.equal(r["image"], by_name[r["file_name"]]) for batch in whole[3:6] for r in batch)


def test_workers_change_nothing(data, pair):
    alone, two = (list(read_steps(steps(data, pair, count=4), 1, workers)) for workers in (0, 2))
    assert len(alone) == len(two) == 3
    assert all(same(a, b) for a, b in zip(alone, two, strict=True))


def test_processes_share_the_batch(data, pair):
    whole = steps(data, pair, batch=4)
    parts = [steps(data, pair, Share(rank, 2), batch=4) for rank in range(2)]
    for step in range(3):
        found = [part[step] for part in parts]
        assert [len(batch) for batch in found] == [2, 2]
        assert same(whole[step], [record for pair in zip(*found, strict=True) for record in pair])
    with pytest.raises(InputError, match="a batch of 3 cannot be shared by 2"):
        steps(data, pair, Share(0, 2), batch=3)


def test_augmentation_leaves_numpys_generator_alone(data, pair):
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    first = steps(data, pair)[0]
    assert np.array_equal(np.random.rand(3), expected)
    np.random.seed(99)
    assert same(first, steps(data, pair)[0])


def truncate(folder, *numbers):
    for number in numbers:
        path = folder / "pictures" / f"p{number}.png"
        path.write_bytes(path.read_bytes()[:200])


def test_a_damaged_picture_is_named_and_missing_from_its_batch(data, pair, caplog):
    truncate(data, 2)
    found = list(read_steps(steps(data, pair, count=3), 0, 0))
    assert sorted(len(batch) for batch in found) == [1, 2, 2]
    (warning,) = caplog.messages
    assert "pictures/p2.png is left out: it cannot be read" in warning
    assert "\n" not in warning


def test_a_batch_of_damaged_pictures_is_another_picture(data, pair, caplog):
    truncate(data, 0, 1, 2, 3, 5)
    found = list(read_steps(steps(data, pair, batch=1, count=6), 0, 0))
    assert [[record["file_name"][-6:] for record in batch] for batch in found] == [["p4.png"]] * 6


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_of_which_none_can_be_read_end_the_training_in_one_line(data, pair, workers):
    truncate(data, *range(6))
    with pytest.raises(InputError, match="the pictures to train on cannot be read") as error:
        list(read_steps(steps(data, pair), 0, workers))
    assert "\n" not in str(error.value)


def test_pictures_without_boxes_are_not_trained_on(data, pair, caplog):
    content = coco_data.description()
    for row in content["annotations"]:
        row["iscrowd"] = int(row["image_id"] == 11)
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 10]
    name = data_name(coco_data.write_data(data, content), data / "pictures")
    records = load_records(name)
    assert len(records) == 6
    with caplog.at_level(logging.WARNING, coco.__name__):
        kept = with_boxes(records, name)
    assert [record["image_id"] for record in kept] == [12, 13, 14, 15]
    assert "2 of 6 pictures have no box and are not trained on" in caplog.text
    with pytest.raises(InputError, match=r"data.json has no picture with a box"):
        with_boxes(records[:2], name)


def spoiled(**changes):
    """The description with one entry changed: `annotations={"bbox": ...}` changes that of the last annotation."""
    data = coco_data.description()
    for key, value in changes.items():
        if isinstance(value, dict):
            data[key][-1] |= value
            data[key][-1] = {name: v for name, v in data[key][-1].items() if v != "absent"}
        else:
            data[key] = value
    return data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "data.json cannot be read"),
        ("[]", "lacks 'images'"),
        (spoiled(categories=[]), "lacks 'categories'"),
        (spoiled(images="none"), "lacks 'images'"),
        (spoiled(images={"width": "absent"}), "an entry of 'images' lacks 'width'"),
        (spoiled(images=[1]), "an entry of 'images' lacks 'id'"),
        (spoiled(images={"id": 10}), "several entries of 'images' have one id"),
        (spoiled(categories={"id": 3}), "several entries of 'categories' have one id"),
        (spoiled(annotations={"id": 1}), "several entries of 'annotations' have one id"),
        (spoiled(annotations={"bbox": "absent"}), "an entry of 'annotations' lacks 'bbox'"),
        (spoiled(annotations={"category_id": 4}), "annotation 12 has category 4, which is not among the 2"),
        (spoiled(annotations={"image_id": 4}), "annotation 12 is of picture 4, which the file does not list"),
        (spoiled(annotations={"bbox": [1, 2, 3]}), "annotation 12 has box [1, 2, 3]; allowed: x, y, width, height"),
        (spoiled(annotations={"bbox": [1, 2, -3, 4]}), "annotation 12 has box [1, 2, -3, 4]"),
        (spoiled(annotations={"bbox": [float("nan"), 2, 3, 4]}), "annotation 12 has box [nan, 2, 3, 4]"),
        (spoiled(annotations={"bbox": ["a", 2, 3, 4]}), "annotation 12 has box ['a', 2, 3, 4]"),
        (spoiled(annotations={"bbox": None}), "annotation 12 has box None"),
        (spoiled(annotations={"ignore": 1}), "data.json is refused by detectron2"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(data, content, words):
    path = data / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as error:
        load_records(data_name(path, data / "pictures"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_one_line(data, tmp_path):
    file = data / "data.json"
    for name, words in (
        (data_name(data / "no.json", data / "pictures"), "no annotation file .*no.json; give the path"),
        (data_name(file, data / "nowhere"), "no folder of pictures .*nowhere"),
        (data_name(file, tmp_path), "none of the pictures of data.json lies in"),
        ("no_such_data", "unknown data set 'no_such_data'"),
        ("coco:half", "unknown data set 'coco:half'"),
        ("coco_2017_val", "no annotation file datasets/coco/annotations/instances_val2017.json"),
        ("voc_2007_val", "voc_2007_val is refused by detectron2"),
    ):
        with pytest.raises(InputError, match=words):
            load_records(name)


def test_classes_must_be_the_models_and_each_others(data, pair, tmp_path):
    names = {}
    for key, classes in (("one", ("disc", "box")), ("turned", ("box", "disc")), ("other", ("disc", "cat"))):
        folder = tmp_path / key
        names[key] = data_name(coco_data.write_data(folder, coco_data.description(3, classes)), folder / "pictures")
        load_records(names[key])
    assert coco.class_names(names["one"]) == ("disc", "box")
    coco.check_same_classes(names["one"], names["one"])
    with pytest.raises(InputError, match="different categories \\(their order\\)"):
        coco.check_same_classes(names["one"], names["turned"])
    with pytest.raises(InputError, match="different categories \\(box, cat\\)"):
        coco.check_same_classes(names["one"], names["other"])
    cfg = coco_data.config(data, pair, MODEL__ROI_HEADS__NUM_CLASSES=80)
    with pytest.raises(InputError, match=r"data.json has 2 classes, the model 80: set MODEL.ROI_HEADS.NUM_CLASSES 2"):
        coco.check_classes(cfg, names["one"])


def test_cocos_layout(tmp_path):
    for split, part in itertools.product(("train2017", "val2017"), ("annotations", "images")):
        with pytest.raises(InputError, match=f"it needs annotations/instances_{split}.json and the folder {split}"):
            coco.coco_names(tmp_path)
        if part == "images":
            (tmp_path / split).mkdir()
        else:
            (tmp_path / "annotations").mkdir(exist_ok=True)
            (tmp_path / "annotations" / f"instances_{split}.json").write_text("{}")
    names = coco.coco_names(tmp_path)
    (tmp_path / "train2017").rmdir()
    assert coco.coco_names(tmp_path, ["val2017"]) == names[1:]  # an evaluation needs no more
    assert names[1] == data_name(tmp_path / "annotations/instances_val2017.json", tmp_path / "val2017")
