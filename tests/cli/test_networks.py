"""`fbnetv3 models | info | predict | export | scale` as a user meets them."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fbnetv3 import build_model
from fbnetv3.arch import Arch
from fbnetv3.complexity import cost
from fbnetv3.networks.classifier import Classifier
from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file
from fbnetv3.training.data.packaged import load_images
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms
from tests.cli.test_cli import one_line
from tests.places import ROOT
from tests.training.examples import ARCH


def test_models_and_info(run):
    code, out, _ = run("models", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["model"][-1] for row in rows] == list("abcdefgbdg")
    assert rows[0]["flops_m"] == 356.59828
    assert rows[0]["metrics"][0] == {"name": "acc1", "value": 79.574, "origin": "released file"}
    _, table, _ = run("models")
    assert "79.574 (released file), 79.1 (paper)" in table
    _, out, _ = run("info", "fbnetv3_a", "--json")
    data = json.loads(out)
    assert data["totals"][0] == {
        "model": "fbnetv3_a",
        "convention": "published",
        "flops": 356598280,
        "params": 8542224,
    }
    assert data["parts"][0] == {"part": "stem", "output": "16 x 112 x 112", "flops": 5419008, "params": 432}
    assert sum(part["flops"] for part in data["parts"]) == 356598280
    _, table, _ = run("info", "fbnetv3_a", "--resolution", "128", "--num-classes", "10")
    assert "16 x 64 x 64" in table
    assert "19840" in table


def test_info_of_a_pair_counts_for_its_data(run, pair):
    _, out, _ = run("info", pair, "--json")
    closed = cost(ARCH, 10, 1)
    assert json.loads(out)["totals"][0]["flops"] == closed.flops()


def test_predict_equals_evaluation_in_the_loop(weights):
    data, classifier = load_images("fashion_mnist"), Classifier.from_weight_file(read_weight_file(weights))
    x, _ = next(data.batches("test", ProcessRank()))
    logits = classifier.model(x)
    for i in range(3):
        names = [name for name, _ in classifier.rank(data.transforms.normalise(data.test.images[i]))]
        assert names == [data.classes[j] for j in logits[i].argsort(descending=True)]


def test_a_colour_picture_of_another_size(run, weights, tmp_path):
    Image.new("RGB", (90, 50), (200, 10, 10)).save(tmp_path / "red.jpg")
    code, out, _ = run("predict", tmp_path / "red.jpg", "--weights", weights, "--json")
    assert code == 0
    assert len(json.loads(out)) == 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_predictions_of_a_gpu_are_those_of_the_cpu(run, weights, picture):
    found = {}
    for device in ("cpu", "cuda"):
        code, out, err = run("predict", picture, "--weights", weights, "--device", device, "--json", "--top", 10)
        assert (code, err.startswith("classifying on cuda")) == (0, device == "cuda"), err
        found[device] = {row["class"]: row["probability"] for row in json.loads(out)}
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1e-3)


def test_predict_shows_the_good_images_and_names_the_bad_ones(run, weights, picture, tmp_path):
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:-60])
    images = [picture, tmp_path / "cut.png", tmp_path / "gone.png", picture]
    code, out, err = run("predict", *images, "--weights", weights, "--json", "--top", 1)
    assert code == 2
    assert [row["image"] for row in json.loads(out)] == [str(picture)] * 2
    first, second = err.splitlines()
    assert first.startswith(f"fbnetv3: {tmp_path}/cut.png is no image that can be read")
    assert second == f"fbnetv3: no image at {tmp_path}/gone.png; give the path of an image file"


def test_predict_looks_for_the_image_before_it_downloads(run, monkeypatch, tmp_path):
    monkeypatch.setattr("fbnetv3.hub.load.load_weights", lambda *_arguments: pytest.fail("loaded"))
    one_line(run("predict", tmp_path / "gone.jpg"), "no image at")
    one_line(run("predict", tmp_path / ("x" * 300)), "no image at")
    (tmp_path / "empty.jpg").touch()
    one_line(run("predict", tmp_path / "empty.jpg"), "is no image that can be read")


def test_weights_that_are_not_finite_are_refused(run, weights, picture, tmp_path):
    file = read_weight_file(weights)
    file.state["classifier.weight"][3, 2] = float("nan")
    write_weight_file(tmp_path / "nan.pt", file)
    for arguments in (
        ("predict", picture, "--weights", tmp_path / "nan.pt", "--json"),
        ("export", tmp_path / "a.pt2", "--format", "torch-export", "--weights", tmp_path / "nan.pt"),
        ("weights", "verify", tmp_path / "nan.pt"),
    ):
        one_line(run(*arguments), "are not finite: classifier.weight has NaN or infinite numbers")


def test_16_bit_grey_is_classified_like_8_bits(run, weights, picture, tmp_path):
    grey = np.asarray(Image.open(picture)).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.new("L", (28, 28), 255).save(tmp_path / "white.png")  # what Pillow makes of it
    found = [Classifier.from_weight_file(read_weight_file(weights)).predict(picture)[:5]]
    for path in (picture, tmp_path / "deep.png", tmp_path / "white.png"):
        rows = json.loads(run("predict", path, "--weights", weights, "--json")[1])
        found.append([(row["class"], row["probability"]) for row in rows])
    assert found[1] == found[2] == [(name, round(p, 4)) for name, p in found[0]]
    assert found[1] != found[3]


@pytest.mark.parametrize("as_json", [True, False])
def test_classes_of_another_alphabet_on_an_ascii_terminal(weights, picture, tmp_path, as_json):
    file = read_weight_file(weights)
    names = tuple(f"h\u00fchn {i}" for i in range(10))
    write_weight_file(tmp_path / "a.pt", WeightFile(file.arch, names, file.transforms, file.state))
    picture.rename(tmp_path / "\u732b.png")
    command = [sys.executable, "-m", "fbnetv3", "predict", str(tmp_path / "\u732b.png"), str(tmp_path / "\u72d7.png")]
    done = subprocess.run(
        [*command, "--weights", str(tmp_path / "a.pt"), *["--json"] * as_json],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.decode("ascii").count("\\u732b.png") == 5
    assert ("h\\u00fchn" if as_json else "h\\xfchn") in done.stdout.decode("ascii")
    assert done.stderr.decode("ascii").count("\n") == 1
    assert "\\u72d7.png; give the path of an image file" in done.stderr.decode("ascii")


def test_predict_names_what_is_wrong_with_a_file(run, pair, weights, picture, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    one_line(run("predict", text, "--weights", weights), "is no image that can be read")
    picture_cut = tmp_path / "cut.png"
    picture_cut.write_bytes(picture.read_bytes()[:-60])
    one_line(run("predict", picture_cut, "--weights", weights), "cut.png")
    one_line(run("predict", tmp_path / "absent.png", "--weights", weights), "no image at")
    one_line(run("predict", picture, "--weights", tmp_path / "absent.pt"), "no such file")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(weights.read_bytes()[:500])
    one_line(run("predict", picture, "--weights", cut), "is no weight file or is damaged")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    one_line(run("predict", picture, "--weights", tmp_path / "other.pt"), "does not say which network it is for")
    data = yaml.safe_load(pair.read_text())
    data["arch"]["resolution"] = 32
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(data))
    one_line(run("predict", picture, "--weights", weights, "--pair", tmp_path / "other.yaml"), "another network than")


def test_a_pair_needs_weights_and_names_the_network(run, picture, pair):
    one_line(run("predict", picture, "--pair", pair), "--pair")
    one_line(run("predict", picture, "--pair", pair, "--model", "fbnetv3_a"), "give one of them")


def test_an_export_says_how_far_its_logits_are_from_those_of_the_network(run, weights, tmp_path):
    code, out, _ = run("export", tmp_path / "net.pt2", "--format", "torch-export", "--weights", weights, "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert row["bytes"] == (tmp_path / "net.pt2").stat().st_size > 0
    assert 0 <= row["difference"] < 1e-3
    again = ("export", tmp_path / "net.pt2", "--format", "torch-export", "--weights", weights)
    one_line(run(*again), "net.pt2 exists already; give --overwrite to replace it, or another path")
    assert run(*again, "--overwrite")[0] == 0
    one_line(run("export", tmp_path / "net.x", "--format", "onxx", "--weights", "no.pt"), "did you mean 'onnx'?")
    one_line(run("export", tmp_path / "net.x", "--format", "onxx", "--weights", weights), "did you mean 'onnx'?")


def test_an_onnx_file_says_what_its_input_and_its_logits_are(run, tmp_path):
    """It is all that a program in another language has."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    transforms = Transforms(40, 32, (0.5,), (0.25,), "bicubic")
    file = WeightFile.of(build_model(ARCH, 2, 1), ("ant", "bee"), transforms)
    write_weight_file(tmp_path / "w.pt", dataclasses.replace(file, derived_from=("fbnetv3_a:fb",)))
    code, _, err = run("export", tmp_path / "net.onnx", "--format", "onnx", "--weights", tmp_path / "w.pt")
    assert code == 0, err
    found = {entry.key: entry.value for entry in onnx.load_model(tmp_path / "net.onnx").metadata_props}
    assert json.loads(found["classes"]) == ["ant", "bee"]
    assert (found["network"], found["licence"], found["interpolation"]) == ("small", "CC BY-NC 4.0", "bicubic")
    assert json.loads(found["derived_from"]) == ["fbnetv3_a:fb"]
    assert [json.loads(found[name]) for name in ("resize", "crop", "mean", "std")] == [40, 32, [0.5], [0.25]]


def test_scale(run, pair):
    code, out, _ = run("scale", "--model", "fbnetv3_b", "--target-flops", "357M", "--json")
    rows = json.loads(out)
    assert code == 0
    assert 5 < len(rows) <= 10
    assert [row["from_rule"] for row in rows] == sorted(row["from_rule"] for row in rows)
    for row in rows:
        assert row["flops"] == cost(Arch.from_dict(row["arch"])).flops() == pytest.approx(357e6, rel=0.01)
    _, table, _ = run("scale", "--pair", pair, "--target-flops", "2.5M", "--tolerance", "0.05", "--top", "2")
    assert table.count("\n") == 6
    one_line(run("scale", "--target-flops", "1G"), "give one network, with --model or with --pair")
    one_line(run("scale", "--model", "fbnetv3_z", "--target-flops", "1G"), "unknown model")
