"""`fbnetv3 benchmark coco` and `fbnetv3 detect` as a user meets them."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from fbnetv3.device import find_device
from tests.cli.test_cli import ROOT, one_line
from tests.detection import coco_data


@pytest.fixture
def data(tmp_path):
    coco_data.write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def tiny(tmp_path):
    return coco_data.pair_file(tmp_path / "tiny.yaml")


@pytest.fixture
def files(data):
    """The options that name the data."""
    return ("--train", data / "data.json", "--val", data / "data.json", "--images", data / "images")


@pytest.fixture
def short(data, tiny):
    """Changes that make a training one of two steps."""
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")
    words = coco_data.changes(data, tiny)
    kept = [
        word
        for key, value in zip(words[::2], words[1::2], strict=True)
        for word in (key, value)
        if not key.startswith("DATASETS")
    ]
    return [*kept, "SOLVER.MAX_ITER", "2"]


def test_train_evaluate_and_detect(run, data, files, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    monkeypatch.setattr("fbnetv3.cli.detection.say_device", lambda *words: said.append(words))
    call = ("benchmark", "coco", "--config", "base_c4", *files, "--out", "2024")  # a name, no number
    code, out, err = run(*call, *short)
    assert code == 0, err
    assert "raw/AP50" in out
    assert "AP-disc" not in out
    weights = tmp_path / "2024" / "weights.pth"
    evaluation = ("benchmark", "coco", "--config", weights.with_name("config.yaml"), "--eval-only")
    code, out, err = run(*evaluation, "--weights", weights, "--out", tmp_path / "found", "--json")
    assert code == 0, err
    rows = {row["metric"]: row["percent"] for row in json.loads(out, parse_constant=pytest.fail)}
    assert {"AP", "AP50", "AP-disc", "AP-box"} <= rows.keys()
    assert rows["APl"] is None  # there is no large box: no number
    assert "backbone: " in err
    assert (tmp_path / "found" / "coco_instances_results.json").exists()
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").symlink_to(data / "data.json")
    (tmp_path / "coco" / "val2017").symlink_to(data / "images")
    code, again, err = run(
        *evaluation, "--data", tmp_path / "coco", "--weights", weights, "--out", tmp_path / "x", "--json"
    )
    assert (code, again) == (0, out), err
    one_line(run(*call, *short), "already holds a training; resume it")
    one_line(run(*call, "--resume", *short, "SEED", "3"), "SEED was 0 and is 3 now")
    assert run(*call, "--resume", *short)[0] == 0

    images = [data / "images" / f"p{i}.png" for i in range(2)]
    code, out, err = run("detect", *images, "--weights", weights, "--out", tmp_path / "d", "--threshold", 0, "--json")
    assert code == 0, err
    for row, image in zip(json.loads(out), images, strict=True):
        table = json.loads((tmp_path / "d" / f"{image.stem}.json").read_text())
        assert row["objects"] == len(table["detections"]) > 0
        assert Image.open(row["written"]).size == (table["width"], table["height"]) == Image.open(image).size
        assert {found["name"] for found in table["detections"]} <= {"disc", "box"}
    call = ("detect", images[0], "--weights", weights, "--out", tmp_path / "d", "--threshold", 1)
    one_line(run(*call), "p0.png exists already; give --overwrite to replace it, or another path")
    code, out, _ = run(*call, "--overwrite")
    assert code == 0
    assert "nothing above 1" in out

    assert said[:2] == [("training", "cpu", "fp32", "0 readers"), ("evaluating", find_device(), "fp32", "0 readers")]
    assert said[-1] == ("detecting", find_device())

    evaluated = (*evaluation, "--weights", weights, "--out", tmp_path / "found")
    one_line(run(*evaluated), "coco_instances_results.json exists already; give --overwrite")
    assert run(*evaluated, "--overwrite")[0] == 0


def test_images_of_one_name_and_damaged_images(run, detector, data, tmp_path):
    weights, out = ("--weights", detector), ("--out", tmp_path / "o")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes((data / "images" / "p0.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((data / "images" / "p0.png").read_bytes()[:300])
    images = [tmp_path / name for name in ("a/x.png", "cut.png", "b/x.png", "gone.png", "a/x.png")]
    code, text, err = run("detect", *images, *weights, *out, "--json")
    assert code == 2
    assert [row["image"] for row in json.loads(text)] == [str(images[0]), str(images[2])]
    assert [line.split(" is ")[0].split(" at ")[0] for line in err.splitlines()[-2:]] == [
        f"fbnetv3: {images[1]}",
        "fbnetv3: no image",
    ]
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        f"{name}_x{suffix}" for name in ("a", "b") for suffix in (".png", ".json")
    }


def test_images_are_looked_for_before_weights(run, short, tmp_path):
    one_line(run("detect", tmp_path / "no.png", "--weights", tmp_path / "no.pth"), "no image at")


@pytest.fixture
def detector(data, tiny, short, tmp_path):
    """The weights of an untrained detector, with the config beside them."""
    from fbnetv3.detection.detector_weights import load_detector

    cfg = coco_data.config(data, tiny)
    torch.save({"model": load_detector(cfg)[0].state_dict()}, tmp_path / "weights.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return tmp_path / "weights.pth"


def test_mistakes_of_detect(run, data, detector, tmp_path):
    weights, image = ("--weights", detector), data / "images" / "p0.png"
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:300])
    (tmp_path / "file").write_text("")
    classifier = coco_data.classifier_file(tmp_path / "classifier.pt")
    out = ("--out", tmp_path / "o")
    for arguments, words in (
        ((tmp_path / "no.png", *weights, *out), "no image at"),
        ((tmp_path / "text.png", *weights, *out), "is no image that can be read"),
        ((tmp_path / "cut.png", *weights, *out), "is no image that can be read"),
        ((tmp_path, *weights, *out), "is no image that can be read"),
        ((image, "--weights", tmp_path / "no.pth", *out), "no.pth: no such file"),
        ((image, "--weights", classifier, *out), "classifier.pt is no detector file"),
        ((image, "--weights", tmp_path / "text.png", *out), "text.png is no detector file or is damaged"),
        ((image, *weights, "--config", "faster_rcnn_table5_fbnetv3_a_c4_3x", *out), "does not fit this detector"),
        ((image, *weights, "--config", tmp_path / "file.yaml", *out), "unknown config"),
        ((image, *weights, "--out", tmp_path / "file" / "x"), "cannot write into"),
        ((image, *weights, "--out", image.parent), "would replace an image that is given; give another folder"),
        ((image, *weights, "--out", image.parent, "--overwrite"), "would replace an image that is given"),
        ((image, *weights, *out, "--device", "warp"), "--device warp cannot be used"),
    ):
        one_line(run("detect", *arguments), words)
    assert not list((tmp_path / "o").glob("*"))


def test_mistakes_of_the_benchmark(run, data, files, short, tmp_path):
    base = ("benchmark", "coco", "--config", "base_c4", "--out", tmp_path / "o")
    (tmp_path / "code.yaml").write_text(f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    (tmp_path / "odd.yaml").write_text("NO_SUCH: 1\n")
    for arguments, words in (
        ((*base, "--data", tmp_path), "does not have COCO's layout: it needs annotations/instances_train2017.json"),
        ((*base, "--data", tmp_path, *files), "--data cannot be combined with --train, --val or --images"),
        ((*base, *files[2:]), "give --train, --val and --images together"),
        ((*base, *files[:4]), "give --train, --val and --images together"),
        ((*base, "--train", tmp_path / "no.json", *files[2:], *short), "no annotation file"),
        ((*base, "--train", tmp_path / "no.json", *files[2:], *short, "--weights", "no.pth"), "no annotation file"),
        ((*base, *files[:4], "--images", tmp_path / "no", *short), "no image folder"),
        ((*base, *files, "MODEL.DEVICE", "cpu"), "has 2 classes, but the model has 80"),
        ((*base, *files, "SOLVER.MAX_ITER"), "give KEY VALUE pairs"),
        ((*base, *files, "SOLVER.NO_SUCH", "3"), "Non-existent key: SOLVER.NO_SUCH"),
        ((*base, *files, "SOLVER.MAX_ITER", "many"), "Type mismatch"),
        ((*base, "--eval-only"), "--eval-only needs weights"),
        ((*base, *files, *short, "--weights", "no.pth"), "no.pth"),
        ((*base, *files, *short, "--eval-only", "--weights", tmp_path / "no.pth"), "no such file"),
        (("benchmark", "coco", "--config", "base_c4", *files, *short), "there is no folder to write to"),
        (("benchmark", "coco", "--config", tmp_path / "code.yaml"), "code.yaml is no config"),
        (("benchmark", "coco", "--config", tmp_path / "odd.yaml"), "odd.yaml: Non-existent config key: NO_SUCH"),
        ((*base, *files, *short, "SOLVER.BASE_LR", "1e9", "SOLVER.MAX_ITER", "6"), "lower SOLVER.BASE_LR"),
        ((*base, "--device", "warp"), "--device warp cannot be used"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (arguments, err)
        last = err.splitlines()[-1]
        assert last.startswith("fbnetv3: ")
        assert words in last, last
        assert "Traceback" not in err
    assert not (tmp_path / "ran").exists()


WITHOUT = """
import contextlib, io, json, sys
sys.modules["detectron2"] = None
from fbnetv3.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fbnetv3", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            found.append((end.code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""


def test_without_detectron2_everything_else_works(tmp_path):
    calls = [
        ("detect", "a.png", "--weights", "w.pth"),
        ("benchmark", "coco", "--data", str(tmp_path), "--out", str(tmp_path / "o")),
        *(("--help",), ("benchmark", "--help"), ("models", "--json"), ("info", "fbnetv3_a", "--json")),
    ]
    command = [sys.executable, "-c", WITHOUT, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    assert len(found) == len(calls)
    for result in found[:2]:
        one_line(result, "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2")
    for code, out, err in found[2:]:
        assert (code, err) == (0, "")
        assert out
