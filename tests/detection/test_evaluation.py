"""Evaluation of detectors: AP by hand from a model that knows the answers, missing numbers, unreadable images."""

import json
import math

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.structures import Boxes, Instances

from fbnetv3 import InputError
from fbnetv3.detection.batches import evaluation_loader
from fbnetv3.detection.datasets import load_records
from fbnetv3.detection.detector_weights import load_detector
from fbnetv3.detection.evaluation import evaluate
from fbnetv3.detection.images import ImageMapper
from tests.detection import coco_data


class Oracle(nn.Module):
    """Finds exactly the annotated boxes of some classes, with certainty."""

    def __init__(self, records, classes=(0, 1)):
        super().__init__()
        self.boxes = {
            record["image_id"]: [box for box in record["annotations"] if box["category_id"] in classes]
            for record in records
        }

    def forward(self, batch):
        outputs = []
        for record in batch:
            boxes = self.boxes[record["image_id"]]
            xywh = torch.tensor([box["bbox"] for box in boxes], dtype=torch.float32).reshape(-1, 4)
            found = Instances((record["height"], record["width"]))
            found.pred_boxes = Boxes(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1))
            found.scores = torch.ones(len(boxes))
            found.pred_classes = torch.tensor([box["category_id"] for box in boxes], dtype=torch.int64)
            outputs.append({"instances": found})
        return outputs


@pytest.fixture(scope="module")
def cfg(shared_data, pair):
    return coco_data.config(shared_data, pair)


@pytest.fixture(scope="module")
def records(shared_data):
    return load_records(coco_data.data_of(shared_data))


def test_ap_by_hand(cfg, records):
    found = evaluate(cfg, Oracle(records))
    assert found["AP"] == found["AP50"] == found["AP-disc"] == found["AP-box"] == pytest.approx(100)
    # All boxes of one class and none of the other: the mean over both classes is a half.
    half = evaluate(cfg, Oracle(records, classes=(1,)))
    assert (half["AP-disc"], half["AP-box"], half["AP"]) == pytest.approx((0, 100, 50))


def test_an_annotation_with_the_id_0_counts(cfg, records, pair, tmp_path):
    """pycocotools takes the id 0 for "no match"."""
    for shift in (0, 1, 5):
        content = coco_data.description()
        for row in content["annotations"]:
            row["id"] -= shift
        coco_data.write_data(tmp_path / str(shift), content)
        shifted = coco_data.config(tmp_path / str(shift), pair)
        found = evaluate(shifted, Oracle(load_records(coco_data.data_of(tmp_path / str(shift)))))
        assert coco_data.same(found, evaluate(cfg, Oracle(records)))
        assert found["AP"] == pytest.approx(100)


def test_the_numbers_are_those_of_detectron2_on_the_file(data, pair):
    cfg = coco_data.config(data, pair, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    content = coco_data.description()
    content["annotations"][4]["iscrowd"] = 1
    content["annotations"][5]["area"] = 3000  # an area of its own, which makes the box a medium one
    coco_data.write_data(data, content)
    records, model = load_records(coco_data.data_of(data)), load_detector(cfg)[0].eval()
    oracle = Oracle(records)

    class Both(nn.Module):
        """The true boxes, and before them the many of an untrained detector."""

        def forward(self, batch):
            (true,), (untrained,) = oracle(batch), model(batch)
            true["instances"].scores *= 0.1
            return [{"instances": Instances.cat([true["instances"], untrained["instances"]])}]

    evaluator = COCOEvaluator(coco_data.data_of(data), ("bbox",), False, None, use_fast_impl=False)
    loader = evaluation_loader(records, ImageMapper(cfg, False), 0)
    expected = inference_on_dataset(Both().eval(), loader, evaluator)["bbox"]
    found = evaluate(cfg, Both())
    assert coco_data.same(found, {key: float(value) for key, value in expected.items()})
    assert 0 < found["AP"] < 100


def test_crowds_alone_have_no_ap(data, pair):
    content = coco_data.description()
    for row in content["annotations"]:
        row["iscrowd"] = 1
    coco_data.write_data(data, content)
    found = evaluate(coco_data.config(data, pair), Oracle(load_records(coco_data.data_of(data))))
    assert all(math.isnan(value) for value in found.values())


def test_records_that_are_given_are_not_read_again(cfg, records, monkeypatch):
    from fbnetv3.detection import evaluation

    expected = evaluate(cfg, Oracle(records))
    monkeypatch.setattr(evaluation, "load_records", lambda _name: pytest.fail("read again"))
    assert coco_data.same(evaluate(cfg, Oracle(records), records=records), expected)


def test_progress_and_the_mode_of_the_model(cfg, records):
    seen = []
    model = Oracle(records).train()
    evaluate(cfg, model, progress=lambda *arguments: seen.append(arguments))
    assert seen == [(i, 6, "images") for i in range(1, 7)]
    assert model.training


def test_images_without_boxes_are_evaluated_too(pair, tmp_path):
    content = coco_data.description()
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] < 13]
    for row in content["annotations"]:
        del row["area"], row["iscrowd"]  # pycocotools needs both
    coco_data.write_data(tmp_path / "data", content)
    cfg = coco_data.config(tmp_path / "data", pair, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    evaluate(cfg, load_detector(cfg)[0], tmp_path / "found")
    found = json.loads((tmp_path / "found" / "coco_instances_results.json").read_text())
    assert {row["image_id"] for row in found} == set(range(10, 16))


def test_no_detection_is_an_ap_of_zero_and_a_class_without_boxes_has_none(cfg, records, pair, tmp_path):
    assert evaluate(cfg, Oracle(records, classes=()))["AP"] == 0.0
    content = coco_data.description()
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 3]
    coco_data.write_data(tmp_path / "discs", content)
    discs = coco_data.config(tmp_path / "discs", pair)
    found = evaluate(discs, Oracle(load_records(coco_data.data_of(tmp_path / "discs"))))
    assert math.isnan(found["AP-box"])
    assert math.isnan(found["APl"])  # COCO's large boxes have 96 x 96 pixels
    assert found["AP"] == found["AP-disc"] == pytest.approx(100)


def test_an_unreadable_image_counts_as_one_without_detections(data, pair, caplog):
    cfg, records = coco_data.config(data, pair), load_records(coco_data.data_of(data))
    coco_data.truncate(data, 5)
    found = evaluate(cfg, Oracle(records))
    assert "p5.png is left out" in caplog.text
    # The image has three of twelve boxes, so three quarters of all boxes are found, without a false one.
    boxes = [box["category_id"] for record in records for box in record["annotations"]]
    lost = [box["category_id"] for box in records[5]["annotations"]]
    assert len(boxes) == 12
    # COCO takes the precision, here 1 up to the recall and 0 after it, at the recalls 0, 0.01, ... 1.
    recalls = [1 - lost.count(label) / boxes.count(label) for label in (0, 1)]
    expected = [100 * (math.floor(100 * recall + 1e-9) + 1) / 101 for recall in recalls]
    assert [found["AP-disc"], found["AP-box"]] == pytest.approx(expected)
    coco_data.truncate(data, *range(6))
    with pytest.raises(InputError, match=r"no image of .* could be read; give the folder of the images"):
        evaluate(cfg, Oracle(records))


def test_data_with_other_classes_than_the_model_is_refused(shared_data, pair, records):
    cfg = coco_data.config(shared_data, pair, MODEL__ROI_HEADS__NUM_CLASSES=3)
    with pytest.raises(InputError, match="has 2 classes, but the model has 3"):
        evaluate(cfg, Oracle(records))
