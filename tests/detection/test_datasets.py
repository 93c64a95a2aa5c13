"""Data sets of detectors: their names, their records, and data that is refused."""

import itertools
import logging

import pytest

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.data.datasets import load_coco_json

from fbnetv3 import InputError
from fbnetv3.detection import datasets
from fbnetv3.detection.datasets import (
    check_class_count,
    check_same_classes,
    class_names,
    coco_2017_names,
    dataset_name,
    dataset_of,
    keep_annotated,
    load_records,
)
from tests.detection import coco_data


def test_records_by_hand(shared_data):
    name = coco_data.data_of(shared_data)
    assert name == f"coco:{shared_data}/data.json:{shared_data}/images"
    records = load_records(name)
    assert [record["image_id"] for record in records] == [10, 11, 12, 13, 14, 15]
    assert [len(record["annotations"]) for record in records] == [1, 2, 3, 1, 2, 3]
    first = coco_data.description()["annotations"][0]
    assert records[0]["file_name"] == f"{shared_data}/images/p0.png"
    assert (records[0]["width"], records[0]["height"]) == (96, 64)
    assert records[0]["annotations"][0]["bbox"] == first["bbox"]
    # Category ids 3 and 6 become the model's classes 0 and 1.
    assert {box["category_id"] for record in records for box in record["annotations"]} == {0, 1}
    assert class_names(name) == ("disc", "box")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_data", "unknown data set 'no_such_data'"),
        ("coco:half", "unknown data set 'coco:half'"),
        ("coco_2017_val", "no annotation file datasets/coco/annotations/instances_val2017.json"),
        ("voc_2007_val", "detectron2 refuses voc_2007_val"),
    ],
)
def test_a_name_without_data_is_one_line(name, words):
    with pytest.raises(InputError, match=words) as error:
        load_records(name)
    assert "\n" not in str(error.value)


def test_other_classes_under_a_name_that_detectron2_knows_are_one_line(data):
    name = coco_data.data_of(data)
    load_records(name)
    content = coco_data.description()
    content["categories"][0]["name"] = "cube"
    coco_data.write_data(data, content)
    with pytest.raises(InputError, match=r"detectron2 refuses data\.json") as error:
        load_records(name)
    assert "\n" not in str(error.value)


def test_records_are_those_of_detectron2(data):
    content = coco_data.description()
    polygon, short = [1, 2, 30, 2, 30, 40], [1, 2, 3, 4]
    content["annotations"][0]["segmentation"] = [polygon, short]
    content["annotations"][1] |= {"iscrowd": 1, "segmentation": {"counts": [0, 64 * 96], "size": [96, 64]}}
    content["annotations"][2]["keypoints"] = [1, 2, 2, 3, 4, 1]
    content["annotations"][3]["segmentation"] = []
    content["images"].reverse()
    coco_data.write_data(data, content)
    found = load_records(coco_data.data_of(data))
    expected = load_coco_json(str(data / "data.json"), str(data / "images"), "the same data")
    for record in found:
        for row in record["annotations"]:
            assert row.pop("area") == row["bbox"][2] * row["bbox"][3]
    assert found == expected
    assert [row.get("segmentation") for row in found[0]["annotations"]] == [[polygon]]


def test_a_box_with_a_malformed_segmentation_is_trained_on(data, caplog):
    content = coco_data.description()
    for row, value in zip(content["annotations"], ([[1, 2]], "none", {"counts": 1}, [1, 2, 3]), strict=False):
        row["segmentation"] = value
    content["annotations"][4]["keypoints"] = [1, None, 2]
    coco_data.write_data(data, content)
    records = load_records(coco_data.data_of(data))
    assert [len(record["annotations"]) for record in records] == [1, 2, 3, 1, 2, 3]
    assert not any({"segmentation", "keypoints"} & row.keys() for record in records for row in record["annotations"])
    assert "5 segmentations or keypoints are malformed, the first of annotation 1; only the box is used" in caplog.text
    assert len(keep_annotated(records, "data")) == 6


def test_images_without_boxes_are_not_trained_on(data, caplog):
    content = coco_data.description()
    for row in content["annotations"]:
        row["iscrowd"] = int(row["image_id"] == 11)
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 10]
    coco_data.write_data(data, content)
    name = coco_data.data_of(data)
    records = load_records(name)
    assert len(records) == 6
    with caplog.at_level(logging.WARNING, datasets.__name__):
        kept = keep_annotated(records, name)
    assert [record["image_id"] for record in kept] == [12, 13, 14, 15]
    assert "2 of 6 images have no box and are not trained on" in caplog.text
    with pytest.raises(InputError, match=r"data.json has no image with a box that does not mark a crowd"):
        keep_annotated(records[:2], name)


def test_classes_must_be_the_models_and_each_others(shared_data, pair, tmp_path):
    names = {}
    for key, classes in (("one", ("disc", "box")), ("turned", ("box", "disc")), ("other", ("disc", "cat"))):
        coco_data.write_data(tmp_path / key, coco_data.description(3, classes))
        names[key] = coco_data.data_of(tmp_path / key)
        load_records(names[key])
    check_same_classes(names["one"], names["one"])
    with pytest.raises(InputError, match=r"different categories \(their order\)"):
        check_same_classes(names["one"], names["turned"])
    with pytest.raises(InputError, match=r"different categories \(box, cat\)"):
        check_same_classes(names["one"], names["other"])
    check_class_count(coco_data.config(shared_data, pair), names["one"])
    cfg = coco_data.config(shared_data, pair, MODEL__ROI_HEADS__NUM_CLASSES=80)
    with pytest.raises(InputError, match=r"has 2 classes, but the model has 80: set MODEL.ROI_HEADS.NUM_CLASSES 2"):
        check_class_count(cfg, names["one"])


def test_the_one_data_set_of_a_config(shared_data, pair):
    cfg = coco_data.config(shared_data, pair, DATASETS__TEST="('a', 'b')")
    assert dataset_of(cfg, "TRAIN") == coco_data.data_of(shared_data)
    with pytest.raises(InputError, match=r"DATASETS.TEST is \('a', 'b'\); give exactly one data set"):
        dataset_of(cfg, "TEST")


def test_cocos_layout(tmp_path):
    for split, part in itertools.product(("train2017", "val2017"), ("annotations", "images")):
        with pytest.raises(InputError, match=f"it needs annotations/instances_{split}.json and the folder {split}"):
            coco_2017_names(tmp_path)
        if part == "images":
            (tmp_path / split).mkdir()
        else:
            (tmp_path / "annotations").mkdir(exist_ok=True)
            (tmp_path / "annotations" / f"instances_{split}.json").write_text("{}")
    names = coco_2017_names(tmp_path)
    (tmp_path / "train2017").rmdir()
    assert coco_2017_names(tmp_path, ["val2017"]) == names[1:]  # an evaluation needs no training data
    assert names[1] == dataset_name(tmp_path / "annotations/instances_val2017.json", tmp_path / "val2017")
