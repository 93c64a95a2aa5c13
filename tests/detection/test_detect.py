"""Detections on pictures, and Table 5's costs, whose count depends on how many proposals there are."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError
from fbnetv3.benchmarks.coco import cost
from fbnetv3.benchmarks.paper import reproduce
from fbnetv3.benchmarks.result import load_result
from fbnetv3.detection.config import load_config
from fbnetv3.detection.detect import Detection, Detector, draw, open_picture, write_detections
from fbnetv3.detection.modeling import build_detector
from fbnetv3.detection.training import prepare
from tests.detection import coco_data


@pytest.fixture
def weights(pair, data, tmp_path):
    """Weights of an untrained detector, and the config beside them, as a training leaves them."""
    folder = tmp_path / "trained"
    folder.mkdir()
    cfg = coco_data.config(data, pair, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0, INPUT__MIN_SIZE_TEST=48)
    torch.save({"model": prepare(cfg)[0].state_dict(), "classes": ["disc", "box"]}, folder / "weights.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "weights.pth"


def test_boxes_lie_in_the_picture_likeliest_first(weights, data):
    detector = Detector.of(weights)
    picture = open_picture(data / "pictures" / "p0.png")
    found = detector.detect(picture, 0.0)
    assert len(found) > 3
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for d in found:
        x0, y0, x1, y1 = d.box
        assert 0 <= x0 <= x1 <= picture.width
        assert 0 <= y0 <= y1 <= picture.height
        assert d.name in ("disc", "box")
        assert 0 <= d.score <= 1
    middle = found[len(found) // 2].score
    assert detector.detect(picture, middle) == [d for d in found if d.score >= middle]
    assert detector.detect(picture, 1.0) == []


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_picture_is_prepared_as_in_evaluation(weights, data, order):
    from detectron2.data import DatasetMapper

    config, path = weights.with_name("config.yaml"), data / "pictures" / "p1.png"
    config.write_text(config.read_text().replace("FORMAT: RGB", f"FORMAT: {order}"))
    cfg = load_config(str(config), ["MODEL.WEIGHTS", str(weights)])
    assert order == cfg.INPUT.FORMAT
    seen = []
    detector = Detector.of(weights)
    detector.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0]["image"]))
    found = detector.detect(open_picture(path), 0.0)
    expected = DatasetMapper(cfg, False)({"file_name": str(path), "height": 96, "width": 64})
    assert torch.equal(seen[0], expected["image"])
    assert tuple(seen[0].shape) == (3, 72, 48)
    with torch.no_grad():  # norms are folded in the detector
        (answer,) = prepare(cfg, strict=True)[0].eval()([expected])
    assert [d.score for d in found] == pytest.approx(answer["instances"].scores.tolist(), abs=2e-4)


def test_a_turned_photo_is_upright(weights, tmp_path):
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32] = 200  # its top is light
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the file holds the picture a quarter counterclockwise
    Image.fromarray(pixels).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    picture = open_picture(tmp_path / "turned.jpg")
    assert picture.size == (96, 64)
    assert np.abs(np.asarray(picture).astype(int) - pixels).mean() < 10
    found = Detector.of(weights).detect(picture, 0.0)
    assert max(d.box[2] for d in found) > 64  # as wide as the upright picture
    written, table = write_detections(tmp_path / "turned.jpg", found, tmp_path / "out")
    assert Image.open(written).size == (96, 64)
    assert json.loads(table.read_text())["width"] == 96


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_pictures_of_any_kind(weights, tmp_path, mode):
    Image.new(mode, (40, 30)).save(tmp_path / "kind.png")
    picture = open_picture(tmp_path / "kind.png")
    assert (picture.mode, picture.size) == ("RGB", (40, 30))
    assert isinstance(Detector.of(weights).detect(picture, 0.0), list)


def test_what_is_drawn_and_written(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    boxes = [Detection("disc", 0.9, (10.0, 20.0, 60.0, 80.0)), Detection("box", 0.75, (100.0, 20.0, 200.0, 100.0))]
    picture, table = write_detections(tmp_path / "a.png", boxes, tmp_path / "out")
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape == (100, 200, 3)
    edges = {tuple(pixels[60, 10]), tuple(pixels[60, 100])}
    assert len(edges) == 2  # a class has one colour
    assert (0, 0, 0) not in edges
    assert not pixels[50, 75:95].any()  # nothing beside the boxes
    assert json.loads(table.read_text()) == {
        "image": str(tmp_path / "a.png"),
        "width": 200,
        "height": 100,
        "detections": [
            {"name": "disc", "score": 0.9, "box": [10.0, 20.0, 60.0, 80.0]},
            {"name": "box", "score": 0.75, "box": [100.0, 20.0, 200.0, 100.0]},
        ],
    }
    plain = Image.new("RGB", (20, 10))
    assert draw(plain, []) is plain


def test_the_picture_itself_is_not_replaced(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(InputError, match=r"a.png would replace the picture itself"):
        write_detections(tmp_path / "a.png", [], tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before
    assert not (tmp_path / "a.json").exists()


def test_detectors_that_are_none(weights, pair, data, tmp_path):
    alone = tmp_path / "alone.pth"
    alone.write_bytes(weights.read_bytes())
    with pytest.raises(InputError, match=r"no config.yaml beside .*alone.pth; give --config"):
        Detector.of(alone)
    with pytest.raises(InputError, match=r"alone.pth does not fit this detector"):
        Detector.of(alone, "faster_rcnn_table5_fbnetv3_a_c4_3x")
    with pytest.raises(InputError, match="unknown config 'nothing'; available: base_c4"):
        Detector.of(alone, "nothing")
    classifier = coco_data.classifier_file(tmp_path / "classifier.pt")
    with pytest.raises(InputError, match=r"classifier.pt is no file of a detector"):
        Detector.of(classifier)


def test_classes_without_names_are_cocos_or_numbers(weights, tmp_path):
    content = torch.load(weights, weights_only=True)
    torch.save({"model": content["model"]}, weights)
    assert Detector.of(weights).classes == ("0", "1")
    cfg = load_config("base_c4", ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", "table5_fbnetv3_a"])
    torch.save({"model": build_detector(cfg).state_dict()}, tmp_path / "coco.pth")
    names = Detector.of(tmp_path / "coco.pth", "faster_rcnn_table5_fbnetv3_a_c4_3x").classes
    assert (len(names), names[0], names[-1]) == (80, "person", "toothbrush")


def test_the_costs_of_a_detector_are_those_of_the_file():
    found = cost.measure_detector("table5_fbnetv3_a")
    assert found == load_result(cost.NAME).values["fbnetv3_a"]
    assert found["flops"] == sum(found["operators"][name] for name in cost.COUNTED)


def test_every_cost_of_table5_agrees_with_the_paper():
    found = {row.id: row.measured.agrees for row in reproduce.report("table5") if row.measured is not None}
    assert all(found.values())
    nets = ("efficientnet_b0", "fbnetv3_a", "efficientnet_b1", "fbnetv3_e", "reduction")
    assert {f"{net}.{cost}" for net in nets for cost in ("params", "flops")} <= set(found)


def test_reductions_by_hand():
    found = cost.reductions({"params": 3.0, "flops": 8.0}, {"params": 4.0, "flops": 10.0})
    assert found == pytest.approx({"params": 25.0, "flops": 20.0})


def test_another_number_of_proposals_is_no_count(pair):
    """Suppression drops some of the anchors, which a head of zeros proposes as they are."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(pair), "MODEL.RPN.NMS_THRESH"]
    with pytest.raises(RuntimeError, match=r"the RPN kept \[\d+\] proposals, not 75"):
        cost.count_operators(build_detector(load_config("base_c4", [*words, "0.1"])).eval(), (96, 96), 75)
    cfg = load_config("base_c4", [*words, "1.0"])
    counted = cost.count_operators(build_detector(cfg).eval(), (96, 96), 75)
    # The box predictor: 75 vectors of 24 channels to 81 classes and 4 coordinates for each of 80.
    assert counted["linear"] == 75 * 24 * (81 + 320)
