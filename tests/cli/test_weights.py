"""`fbnetv3 weights` and `predict` as a user meets them."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fbnetv3.hub import create_model, download
from fbnetv3.networks.classifier import Classifier
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.training.data.packaged import load_images
from tests.cli.test_cli import one_line
from tests.hub.test_load import Evil
from tests.whole.test_reference import reference_state


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def photo(tmp_path):
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (300, 400, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def released(tmp_path):
    torch.save({"state_dict": reference_state("FBNetV3_A"), "model_ema": None}, tmp_path / "released.pth")
    return tmp_path / "released.pth"


def test_predict_with_a_file_of_the_released_layout(run, photo, released):
    code, out, _ = run("predict", photo, photo, "--model", "fbnetv3_a", "--weights", released, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["image"] for row in rows] == [str(photo)] * 10
    # The same by hand: torchvision's own evaluation transform, the built model, ImageNet's names.
    from torchvision.models import ResNet18_Weights
    from torchvision.transforms._presets import ImageClassification

    x = ImageClassification(crop_size=224, resize_size=242)(Image.open(photo))
    model = create_model("fbnetv3_a", weights=released).eval()
    with torch.no_grad():
        p, index = model(x[None]).softmax(1)[0].topk(5)
    names = [ResNet18_Weights.DEFAULT.meta["categories"][i] for i in index.tolist()]
    assert [row["class"] for row in rows[:5]] == names
    assert [row["probability"] for row in rows[:5]] == pytest.approx(p.tolist(), abs=1e-3)


def test_predict_without_weights_asks_for_the_released_ones(run, photo, monkeypatch):
    def no_network(url, *args):
        raise OSError("no network")

    monkeypatch.setattr(download, "_receive", no_network)
    code, out, err = run("predict", photo)
    assert (code, out) == (2, "")
    assert "cannot download https://dl.fbaipublicfiles.com" in err
    assert "FBNetV3_A" in err
    assert str(download.cache_path("")).rsplit("/", 1)[0] in err
    code, _, err = run("predict", photo, "--model", "fbnetv3_d", "--weights", "timm_ra2")
    assert "fbnetv3_d_224-c98bce42.pth (no network)" in err


def test_verify_and_list(run, released, weights, monkeypatch):
    code, out, err = run("weights", "verify", weights, released, "--model", "fbnetv3_a", "--json")
    assert code == 2  # the first file is another network's
    assert [row["file"] for row in json.loads(out)] == [str(released)]
    assert err.count("\n") == 1
    code, out, _ = run("weights", "verify", weights, "--json")
    (row,) = json.loads(out)
    assert (code, row["status"], len(row["sha256"])) == (0, "fits", 64)
    one_line(run("weights", "verify"), "no registered weights are on this machine yet")
    monkeypatch.setattr(
        download, "_receive", lambda url, file, p: file.write(released.read_bytes()) and download.file_hash(released)
    )
    create_model("fbnetv3_a", pretrained=True, progress=False)
    _, out, _ = run("weights", "list", "--json")
    rows = json.loads(out)
    assert len(rows) == 10
    assert [row["model"] for row in rows if row["here"]] == ["fbnetv3_a"]
    path = rows[0]["here"]
    assert rows[0]["sha256"] == download.file_hash(released)
    code, out, _ = run("weights", "verify", "--json")
    assert (code, json.loads(out)[0]["network"]) == (0, "fbnetv3_a")
    Path(path).write_bytes(Path(path).read_bytes() + b"x")
    one_line(run("weights", "verify"), "recorded at first use")


def test_convert(run, released, tmp_path):
    target = tmp_path / "a.safetensors"
    code, _, _ = run("weights", "convert", released, target, "--model", "fbnetv3_a")
    assert code == 0
    file = read_weight_file(target)
    assert (file.arch.name, file.classes, file.derived_from) == ("fbnetv3_a", "imagenet1k", ("fbnetv3_a:fb",))
    assert Classifier.from_weight_file(file).transforms.resize == 242
    again = ("weights", "convert", released, target, "--model", "fbnetv3_a")
    one_line(run(*again), "a.safetensors exists already; give --overwrite to replace it, or another path")
    assert run(*again, "--overwrite")[0] == 0
    one_line(run("weights", "convert", released, tmp_path / "a.bin", "--model", "fbnetv3_a"), "ends in .safetensors")
    one_line(run("weights", "convert", released, tmp_path / "b.pt"), "does not say which network it is for")
    one_line(
        run("weights", "convert", target, tmp_path / "t.pt", "--layout", "timm"), "timm has no network that equals"
    )
    one_line(run("weights", "convert", target, tmp_path / "t.pt", "--layout", "caffe"), "allowed: fbnetv3, timm")
    torch.save(reference_state("FBNetV3_D"), tmp_path / "d.pth")
    code, _, _ = run(
        "weights", "convert", tmp_path / "d.pth", tmp_path / "d.safetensors", "--model", "fbnetv3_d", "--layout", "timm"
    )
    assert code == 0
    import timm

    timm.create_model("fbnetv3_d").load_state_dict(load_file(tmp_path / "d.safetensors"))


def test_a_pickle_with_code_is_converted_only_when_trusted(run, tmp_path):
    sign = tmp_path / "was here"
    torch.save({"state_dict": reference_state("FBNetV3_A"), "config": Evil(sign)}, tmp_path / "e.pth")
    new = tmp_path / "e.safetensors"
    one_line(run("weights", "convert", tmp_path / "e.pth", new, "--model", "fbnetv3_a"), "--trust-pickle")
    assert not sign.exists()
    assert not new.exists()
    code, _, _ = run("weights", "convert", tmp_path / "e.pth", new, "--model", "fbnetv3_a", "--trust-pickle")
    assert code == 0
    assert sign.exists()
    assert read_weight_file(new).arch.name == "fbnetv3_a"


def test_publish_a_training_and_use_it(run, pair, picture, tmp_path):
    run("train", "--pair", pair, "--out", tmp_path / "run")
    zoo = tmp_path / "zoo"
    given = ["weights", "publish", tmp_path / "run" / "weights.pt", "--pair", pair, "--zoo", zoo, "--licence", "MIT"]
    code, out, _ = run(*given, "--name", "mine", "--json")
    assert code == 0, out
    code, out, _ = run("models", "--zoo", zoo, "--json")
    (row,) = json.loads(out)
    (metric,) = row["metrics"]
    assert (row["model"], metric["origin"]) == (
        "mine",
        "measured here: test images of fashion_mnist; epochs of the recipe: 1",
    )
    code, out, _ = run("predict", picture, "--zoo", zoo, "--json")
    assert code == 0
    expected = Classifier.from_weight_file(read_weight_file(tmp_path / "run" / "weights.pt")).predict(picture)
    assert [r["class"] for r in json.loads(out)] == [name for name, _ in expected[:5]]
    assert {r["class"] for r in json.loads(out)} < set(load_images("fashion_mnist").classes)
    one_line(run(*given, "--name", "mine"), "has weights 'custom' of mine already")
    one_line(run(*given, "--name", "x", "--acc1", "9"), "--acc1 and --origin need each other")
    # The checkpoint of a training holds the optimizer and more; only averaged weights are published.
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    given[2] = checkpoint
    one_line(run(*given, "--name", "other"), "does not say what it was trained from")
    code, _, _ = run(*given, "--name", "other", "--trained-from", "scratch")
    assert code == 0
    (published,) = zoo.glob("other-*.safetensors")
    assert published.stat().st_size < checkpoint.stat().st_size
