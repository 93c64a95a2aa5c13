"""Detectors on images: boxes, their preparation and drawing, files that are written, and detectors that are refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from fbnetv3 import InputError
from fbnetv3.detection import detector as module
from fbnetv3.detection.config import CONFIGS, load_config
from fbnetv3.detection.detector import Detection, Detector, check_results, draw, result_names, write_detections
from fbnetv3.detection.detector_weights import load_detector
from fbnetv3.transforms import open_upright
from tests.detection import coco_data


@pytest.fixture(scope="module")
def weights(pair, shared_data, tmp_path_factory):
    """Weights of an untrained detector, and the config beside them, as a training leaves them."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = coco_data.config(shared_data, pair, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0, INPUT__MIN_SIZE_TEST=48)
    torch.save({"model": load_detector(cfg)[0].state_dict(), "classes": ["disc", "box"]}, folder / "weights.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "weights.pth"


@pytest.fixture(scope="module")
def detector(weights):
    return Detector.load(weights)


def test_boxes_are_in_the_image_and_the_most_probable_come_first(detector, shared_data):
    image = open_upright(shared_data / "images" / "p0.png", "RGB")
    found = detector.detect(image, 0.0)
    assert len(found) > 3
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for d in found:
        x0, y0, x1, y1 = d.box
        assert 0 <= x0 <= x1 <= image.width
        assert 0 <= y0 <= y1 <= image.height
        assert d.name in ("disc", "box")
        assert 0 <= d.score <= 1
    middle = found[len(found) // 2].score
    assert detector.detect(image, middle) == [d for d in found if d.score >= middle]
    assert detector.detect(image, 1.0) == []


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_an_image_is_prepared_as_in_evaluation(weights, shared_data, tmp_path, order):
    from detectron2.data import DatasetMapper

    config, path = tmp_path / "config.yaml", shared_data / "images" / "p1.png"
    text = weights.with_name("config.yaml").read_text()
    config.write_text(text.replace("FORMAT: RGB", f"FORMAT: {order}"))
    cfg = load_config(str(config), ["MODEL.WEIGHTS", str(weights)])
    assert order == cfg.INPUT.FORMAT
    seen = []
    detector = Detector.load(weights, str(config))
    detector.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0]["image"]))
    found = detector.detect(open_upright(path, "RGB"), 0.0)
    expected = DatasetMapper(cfg, False)({"file_name": str(path), "height": 96, "width": 64})
    assert torch.equal(seen[0], expected["image"])
    assert tuple(seen[0].shape) == (3, 72, 48)
    with torch.no_grad():  # the detector has folded norms, which changes the last digits
        (answer,) = load_detector(cfg, strict=True)[0].eval()([expected])
    assert [d.score for d in found] == pytest.approx(answer["instances"].scores.tolist(), abs=2e-4)


def test_the_weights_are_read_once_and_the_global_generator_is_left_alone(weights, monkeypatch):
    read = []
    original = module.read_detector
    monkeypatch.setattr(module, "read_detector", lambda path: read.append(path) or original(path))
    monkeypatch.setattr("fbnetv3.detection.detector_weights.load_torch", _counted(read))
    state = torch.get_rng_state()
    Detector.load(weights)
    assert read == [weights, "load_torch"]
    assert torch.equal(torch.get_rng_state(), state)


def _counted(read):
    from fbnetv3.files import load_torch

    return lambda *arguments, **more: read.append("load_torch") or load_torch(*arguments, **more)


def test_a_turned_photo_is_upright(detector, tmp_path):
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32] = 200  # its top is light
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the file has the image a quarter counterclockwise
    Image.fromarray(pixels).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = open_upright(tmp_path / "turned.jpg", "RGB")
    assert image.size == (96, 64)
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 10
    found = detector.detect(image, 0.0)
    assert max(d.box[2] for d in found) > 64  # boxes reach over the whole width of the upright image
    written, table = write_detections(tmp_path / "turned.jpg", image, found, tmp_path / "out")
    assert Image.open(written).size == (96, 64)
    assert json.loads(table.read_text())["width"] == 96


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_any_kind(detector, tmp_path, mode):
    Image.new(mode, (40, 30)).save(tmp_path / "kind.png")
    image = open_upright(tmp_path / "kind.png", "RGB")
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert isinstance(detector.detect(image, 0.0), list)


def test_what_is_drawn_and_written(tmp_path):
    image = Image.new("RGB", (200, 100))
    boxes = [Detection("disc", 0.9, (10.0, 20.0, 60.0, 80.0)), Detection("box", 0.75, (100.0, 20.0, 200.0, 100.0))]
    drawing, table = write_detections(tmp_path / "a.png", image, boxes, tmp_path / "out")
    pixels = np.asarray(Image.open(drawing))
    assert pixels.shape == (100, 200, 3)
    edges = {tuple(pixels[60, 10]), tuple(pixels[60, 100])}
    assert len(edges) == 2  # each class has its colour
    assert (0, 0, 0) not in edges
    assert not pixels[50, 75:95].any()  # nothing is drawn between the boxes
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


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["a/x.jpg"], ["x"]),
        (["a/x.jpg", "a/y.jpg"], ["x", "y"]),
        (["a/x.jpg", "b/x.jpg"], ["a_x", "b_x"]),
        (["c/a/x.jpg", "d/a/x.jpg", "y.jpg"], ["c_a_x", "d_a_x", "d_data_y"]),
        (["a/x.jpg", "a/x.png"], ["x.jpg", "x.png"]),
        (["a_b/x.jpg", "a/b_x.jpg"], ["x", "b_x"]),
        ([], []),
    ],
)
def test_names_of_results_are_distinct_and_short(monkeypatch, tmp_path, images, names):
    (tmp_path / "d" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "d" / "data")
    paths = [Path(image) for image in images]
    assert result_names(paths) == dict(zip(paths, names, strict=True))


def test_results_whose_folders_do_not_tell_them_apart_have_numbers():
    paths = [Path("/a_b/x.jpg"), Path("/a/b/x.jpg"), Path("/c/a/b/x.jpg")]
    assert len(set(result_names(paths).values())) == 3
    twice = [Path("/a/x.jpg"), Path("/a/../a/x.jpg")]
    assert len(set(result_names(twice).values())) == 2


def test_results_replace_nothing_unless_it_is_asked_for(tmp_path):
    names = {tmp_path / "a.jpg": "a", tmp_path / "b.png": "b"}
    check_results(names, tmp_path / "out", overwrite=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.json").touch()
    with pytest.raises(InputError, match=r"out/b\.json exists already; give --overwrite"):
        check_results(names, tmp_path / "out", overwrite=False)
    check_results(names, tmp_path / "out", overwrite=True)
    with pytest.raises(InputError, match=r"b\.png would replace an image that is given; give another folder"):
        check_results(names, tmp_path, overwrite=True)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_out_of_range_is_refused(detector, threshold):
    with pytest.raises(InputError, match=r"the threshold is .*; allowed: numbers from 0 to 1"):
        detector.detect(Image.new("RGB", (30, 30)), threshold)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["disc"]}, "has 1 names of classes, but 2 classes"),
        ({"classes": 5}, "is damaged: classes is 5; allowed: a list of names"),
        ({"classes": [1, 2]}, r"is damaged: classes is \[1, 2\]; allowed: a list of names"),
        ({"derived_from": 5}, "is damaged: derived_from is 5"),
        ({"model": {"a": 5}}, "contains no detector"),
        ({"model": 5}, "contains no detector"),
    ],
)
def test_a_changed_file_is_one_line(weights, tmp_path, change, words):
    torch.save(torch.load(weights, weights_only=True) | change, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=words):
        Detector.load(tmp_path / "weights.pth", str(weights.with_name("config.yaml")))


def test_an_image_of_which_nothing_would_be_left_is_refused(detector):
    with pytest.raises(
        InputError, match=r"an image of 9000 x 1 pixels is too narrow for INPUT.MAX_SIZE_TEST 96; cut it"
    ):
        detector.detect(Image.new("RGB", (9000, 1)))
    assert isinstance(detector.detect(Image.new("RGB", (9000, 1)).crop((0, 0, 90, 1))), list)  # as the advice says
    assert isinstance(detector.detect(Image.new("RGB", (1, 1))), list)


def test_the_image_itself_is_not_replaced(tmp_path):
    image = Image.new("RGB", (20, 10))
    image.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(InputError, match=r"a.png would replace the image itself"):
        write_detections(tmp_path / "a.png", image, [], tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before
    assert not (tmp_path / "a.json").exists()


def test_files_that_are_no_detector_are_refused(weights, tmp_path):
    alone = tmp_path / "alone.pth"
    alone.write_bytes(weights.read_bytes())
    with pytest.raises(InputError, match=r"there is no config.yaml beside .*alone.pth; give --config"):
        Detector.load(alone)
    with pytest.raises(InputError, match=r"alone.pth does not fit this detector"):
        Detector.load(alone, "faster_rcnn_table5_fbnetv3_a_c4_3x")
    with pytest.raises(InputError, match="unknown config 'nothing'; available: base_c4"):
        Detector.load(alone, "nothing")
    classifier = coco_data.classifier_file(tmp_path / "classifier.pt")
    with pytest.raises(InputError, match=r"classifier.pt is no detector file"):
        Detector.load(classifier)


@pytest.mark.parametrize(("count", "names"), [(2, ("0", "1")), (80, ("person", "toothbrush"))])
def test_class_names_of_a_file_without_any(pair, tmp_path, count, names):
    model = coco_data.detector(pair, MODEL__ROI_HEADS__NUM_CLASSES=count)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    (tmp_path / "config.yaml").write_text(
        f"MODEL:\n  FBNETV3: {{ARCH: {pair}}}\n  ROI_HEADS: {{NUM_CLASSES: {count}}}\n_BASE_: {CONFIGS}/base_c4.yaml\n"
    )
    classes = Detector.load(tmp_path / "weights.pth").classes
    assert len(classes) == count
    assert (classes[0], classes[-1]) == names
