"""Saved weights are measured again with the numbers of the training, and all images of a set are read."""

import dataclasses
import json
import shutil

import pytest
import torch

from fbnetv3 import build_model
from fbnetv3.files import load_torch, save_torch
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.training.data.packaged import load_images
from fbnetv3.transforms import Transforms
from tests.cli.test_cli import one_line
from tests.cli.training_files import arguments
from tests.training.data.examples import make_folder
from tests.training.examples import ARCH


@pytest.mark.parametrize("model", ["fbnetv3_a0", "nets_here:net", "timm:test_efficientnet"])
def test_the_numbers_are_those_of_the_training(run, here, animals, model):
    code, out, err = run(*arguments(animals, model), "--set", "epochs=1")
    assert code == 0, err
    (trained,) = json.loads(out)
    # The file describes its network; only somebody's own code has to be named before it runs.
    more = ("--model", model) if model.startswith("nets_here") else ()
    code, out, err = run("evaluate", trained["weights"], "--data", animals, *more, "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["split"], row["images"], row["acc1"]) == ("test", 9, trained["test_acc1"])
    assert row["acc5"] is None  # of three classes
    assert [timed["batch"] for timed in row["speed"]["batches"]] == [1, 9]
    code, out, _ = run(
        "evaluate", trained["weights"], "--data", animals, *more, "--split", "val", "--json", "--no-speed"
    )
    assert json.loads(out)[0]["acc1"] == trained["val_acc1"]
    # The tensors alone, as other programs write them.
    save_torch(here / "plain.pt", load_torch(here / trained["weights"], "weights")["state_dict"])
    more = ("--model", model, *(() if model == "fbnetv3_a0" else ("--resolution", 16)))
    if model != "fbnetv3_a0":  # whose file without description is one of ImageNet's size and classes
        code, out, err = run("evaluate", "plain.pt", "--data", animals, *more, "--json")
        assert code == 0, err
        assert json.loads(out)[0]["acc1"] == trained["test_acc1"]


def test_the_code_of_a_network_runs_only_if_it_is_named(run, here, animals):
    code, out, err = run(*arguments(animals, "nets_here:net"), "--set", "epochs=1")
    assert code == 0, err
    weights = json.loads(out)[0]["weights"]
    message = (
        "has the weights of nets_here:net, a network of somebody's own code, which would run; if you trust it, name"
    )
    one_line(run("evaluate", weights, "--data", animals), message)
    one_line(run("predict", animals / "test" / "bee" / "0000.png", "--weights", weights), message)
    one_line(
        run("evaluate", weights, "--data", animals, "--model", "timm:test_resnet"),
        "contains the weights of nets_here:net, another network than timm:test_resnet",
    )


def test_images_in_memory_and_of_the_package(run, here, animals, pair):
    for data, more in ((f"memory:{animals}", ("--resolution", 16)), ("fashion_mnist", ("--limit", 60))):
        small = ("--set", "batch_size=5") if "memory" in data else ("--set", "batch_size=100")
        code, out, err = run("train", "--pair", pair, "--data", data, *more, *small, "--out", data[:6], "--json")
        assert code == 0, err
        (trained,) = json.loads(out)
        limit = more if data == "fashion_mnist" else ()
        code, out, err = run("evaluate", trained["weights"], "--data", data, *limit, "--json")
        assert code == 0, err
        assert json.loads(out)[0]["acc1"] == pytest.approx(trained["test_acc1"], abs=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_numbers_of_the_cpu(run, weights):
    found = {}
    for device in ("cpu", "cuda", "auto"):
        code, out, err = run("evaluate", weights, "--data", "fashion_mnist", "--device", device, "--json")
        assert (code, err.startswith("evaluating on cuda")) == (0, device != "cpu"), err
        (found[device],) = json.loads(out)
    assert found["cuda"] == found["auto"]
    # The logits of an untrained network are nearly equal.
    assert found["cuda"]["acc1"] == pytest.approx(found["cpu"]["acc1"], abs=0.5)


def test_too_little_memory_is_one_line(run, weights, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        )

    monkeypatch.setattr("fbnetv3.evaluation.one_pass.evaluate", full)
    message = "the device has too little free memory (CUDA out of memory); free some of it"
    one_line(run("evaluate", weights, "--data", "fashion_mnist"), message)


def test_the_number_of_readers_is_checked(run, weights):
    one_line(
        run("evaluate", weights, "--data", "fashion_mnist", "--workers", "-1"), "--workers '-1'; give auto, or a whole"
    )


def weights_of_plain():
    """The state dict of the custom network `nets_here:plain` for three classes."""
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), *[torch.nn.ReLU()] * 3, torch.nn.Linear(24, 3)).state_dict()


def test_weights_that_do_not_fit_the_images(run, here, animals, weights):
    one_line(run("evaluate", weights, "--data", animals), "3 of the 3 classes of")
    one_line(run("evaluate", weights, "--data", "fashion_mnist", "--resolution", 32), "leave out --resolution")
    one_line(run("evaluate", weights, "--data", "fashion_mnist", "--split", "holdout"), "unknown split 'holdout'")
    one_line(run("evaluate", "absent.pt", "--data", "fashion_mnist"), "absent.pt: no such file")
    one_line(
        run("evaluate", weights, "--data", "fashion_mnist", "--on-bad-image", "no"), "on_bad_image is 'no'; allowed"
    )
    torch.save({"weight": 5}, here / "odd.pt")
    one_line(run("evaluate", "odd.pt", "--data", animals), "does not say which network it is for")
    one_line(run("evaluate", "odd.pt", "--data", animals, "--model", "timm:test_efficientnet"), "expected a state dict")
    data = load_images("fashion_mnist")
    network = build_model(ARCH, 10, 1)
    network.stem.conv.weight.data.fill_(float("nan"))
    write_weight_file(here / "nan.pt", WeightFile.of(network, data.classes, data.transforms))
    one_line(run("evaluate", "nan.pt", "--data", "fashion_mnist"), "the weights of small are not finite")
    torch.save(dict.fromkeys(weights_of_plain(), torch.full((1,), float("nan"))), here / "odd.pt")
    one_line(
        run("evaluate", "odd.pt", "--data", animals, "--model", "nets_here:plain"), "not a state dict of nets_here"
    )
    torch.save({key: value * float("nan") for key, value in weights_of_plain().items()}, here / "odd.pt")
    one_line(
        run("evaluate", "odd.pt", "--data", animals, "--model", "nets_here:plain"),
        "the weights of nets_here:plain are n",
    )
    network = build_model(ARCH, 10, 3)
    write_weight_file(
        here / "rgb.pt",
        WeightFile.of(network, data.classes, data.transforms.__class__(28, 28, (0.5,) * 3, (0.5,) * 3)),
    )
    one_line(
        run("evaluate", "rgb.pt", "--data", "fashion_mnist"), "the weights are for 3 channels of 28 pixels, but fashi"
    )


@pytest.fixture
def ants(here):
    """A file of a network that takes every RGB image of 8 pixels for the second of its classes: bee, ant, cow."""
    file = WeightFile.of(build_model(ARCH, 3, 3), ("bee", "ant", "cow"), Transforms(8, 8, (0.5,) * 3, (0.25,) * 3))
    state = dict(file.state) | {"classifier.bias": torch.tensor([0.0, 50.0, 0.0])}
    write_weight_file(here / "ants.pt", dataclasses.replace(file, state=state))
    return here / "ants.pt"


def test_the_files_are_written_only_where_asked_and_never_over_others(run, here, animals, ants, monkeypatch):
    """Every image is taken for an ant, with full confidence; the classes of the weights have another order."""
    asked = ("evaluate", ants, "--data", animals, "--out", "found")
    before = set(here.iterdir())
    code, out, err = run("evaluate", ants, "--data", animals, "--no-speed")
    assert (code, set(here.iterdir())) == (0, before), err
    assert "are in another order than those of" in err
    assert "33.33" in out
    code, out, err = run(*asked)
    assert code == 0, err
    assert "Report: found/report.html" in out
    data = json.loads((here / "found" / "metrics.json").read_text())
    assert (data["acc1"], data["network"], data["split"]) == (pytest.approx(100 / 3), "small", "test")
    assert [(row["class"], row["recall"]) for row in data["classes"]] == [("bee", 0.0), ("ant", 100.0), ("cow", 0.0)]
    assert data["ece"] == pytest.approx(200 / 3, abs=0.1)
    assert data["mistakes"][0]["image"] in ("bee/0000.png", "cow/0000.png")
    assert "<td>cow</td><td>ant</td><td>3</td><td>100.0%</td>" in (here / "found" / "report.html").read_text()
    names = {"confusion.png", "metrics.json", "reliability.png", "report.html"}
    assert {path.name for path in (here / "found").iterdir()} == names
    one_line(run(*asked), "metrics.json exists already; give --overwrite")
    monkeypatch.setattr("fbnetv3.evaluation.plots.png_of", lambda figure: b"new")
    assert run(*asked, "--overwrite", "--no-speed")[0] == 0
    assert (here / "found" / "confusion.png").read_bytes() == b"new"


def test_ctrl_c_leaves_nothing(run, here, animals, ants, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fbnetv3.evaluation.one_pass.evaluate", interrupted)
    assert run("evaluate", ants, "--data", animals, "--out", "found")[0] == 130
    assert not (here / "found").exists()


def test_data_with_some_of_the_classes_or_with_one_image(run, here, ants):
    root = make_folder(here / "set", (("train", 1), ("test", 0)))
    for name in ("bee", "cow"):
        shutil.rmtree(root / "train" / name)
        shutil.rmtree(root / "test" / name)
    (root / "test" / "ant" / "only.png").write_bytes((root / "train" / "ant" / "0000.png").read_bytes())
    (root / "val").mkdir()
    shutil.copytree(root / "test" / "ant", root / "val" / "ant")
    code, out, err = run("evaluate", ants, "--data", root, "--json", "--out", "found")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["images"], row["acc1"], len(row["classes"])) == (1, 100.0, 3)
    assert "has 1 of the 3 classes of" in err
    assert "There is no mistake." in (here / "found" / "report.html").read_text()


def test_all_images_of_a_folder_without_splits(run, here, animals, ants):
    flat = make_folder(here / "set", (("flat", 1),)) / "flat"
    code, out, err = run("evaluate", ants, "--data", flat, "--split", "all", "--json", "--no-speed")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["split"], row["images"]) == ("all", 3)
    asked = ("evaluate", ants, "--data", animals, "--split", "all")
    assert "but " + str(animals) + " has train, val, test; give one" in run(*asked)[2]


def test_a_described_file_is_read_once(run, here, animals, ants, monkeypatch):
    from fbnetv3.hub import load

    read = []
    real = load.read_tensors
    monkeypatch.setattr(load, "read_tensors", lambda path, *more: read.append(path) or real(path, *more))
    monkeypatch.setattr("fbnetv3.networks.weight_file.read_tensors", load.read_tensors)
    for more in ((), ("--model", "timm:test_efficientnet")):
        read.clear()
        run("evaluate", ants, "--data", animals, "--no-speed", *more)
        assert len(read) == 1, more


def test_a_set_is_checked(run, tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    code, out, err = run("check-data", root, "--json")
    assert (code, json.loads(out)) == (0, []), err
    (root / "train" / "bee" / "0001.png").write_bytes(b"damaged")
    for spec in (root, f"memory:{root}"):
        code, out, err = run("check-data", spec, "--json", "--workers", 2)
        assert code == 2
        (row,) = json.loads(out)
        assert (row["split"], row["image"]) == ("train", "bee/0001.png")
        assert "1 images of" in err
    assert "bee/0001.png" in run("check-data", root)[1]
    assert run("check-data", "fashion_mnist")[0] == 0


def test_a_damaged_test_image_does_not_lose_the_training(run, here, tmp_path, caplog):
    """The advice of every error works: measuring again, resuming, and leaving the image out."""
    root = make_folder(tmp_path / "set", (("train", 4), ("val", 2), ("test", 2)))
    (root / "test" / "bee" / "0001.png").write_bytes(b"damaged")
    fails = ("--on-bad-image", "fail")
    for model, more in (("nets_here:net", " --model nets_here:net"), ("fbnetv3_a0", "")):
        out_dir = model.replace(":", "_")
        code, out, err = run(*arguments(root, model, out_dir), *fails)
        assert (code, out) == (2, "")
        last = err.strip().splitlines()[-1]
        command = f"fbnetv3 evaluate {out_dir}/weights.pt --data {root}{more}"
        assert last.endswith(
            f"The training is finished and its weights are in {out_dir}/weights.pt. Measure them again with: {command}"
        )
        assert "bee/0001.png is no image that can be read" in last
        before = load_torch(here / out_dir / "weights.pt", "weights")["state_dict"]
        code, out, err = run(*command.split()[1:], "--json")
        assert code == 0, err
        (row,) = json.loads(out)
        assert (row["images"], row["left_out"]) == (5, 1)
        assert "left out: " in caplog.text
        one_line(run(*command.split()[1:], *fails), "bee/0001.png is no image that can be read")
        code, out, err = run(*arguments(root, model, out_dir), "--resume")
        assert code == 0, err
        (row_of_training,) = json.loads(out)
        assert (row_of_training["left_out"], row_of_training["test_acc1"]) == ({"test": 1}, row["acc1"])
        assert str(before) == str(load_torch(here / out_dir / "weights.pt", "weights")["state_dict"])
    (root / "test" / "bee" / "0001.png").unlink()  # what the message asks for does not make another training of it
    code, out, err = run(*arguments(root, "fbnetv3_a0", "fbnetv3_a0"), "--resume", *fails)
    assert code == 0, err
    assert json.loads(out)[0]["test_acc1"] == row["acc1"]


def test_damaged_training_images_are_known_before_the_first_step(run, here, tmp_path, caplog):
    root = make_folder(tmp_path / "set", (("train", 4), ("val", 2)))
    (root / "train" / "bee" / "0001.png").write_bytes(b"damaged")
    (root / "val" / "cow" / "0001.png").write_bytes(b"damaged")
    checked = (*arguments(root), "--check-data")
    code, _, err = run(*checked, "--on-bad-image", "fail")
    assert code == 2
    assert "fbnetv3: 2 images cannot be read. The first one: " in err
    assert "--on-bad-image skip leaves them out" in err
    assert not (here / "run").exists()
    code, out, err = run(*checked)
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["left_out"] == {"train": 1, "val": 1}
    assert caplog.text.count("left out: ") == 2
    code, out, err = run(*arguments(root, out="again"))  # without the check the result is the same
    assert json.loads(out)[0] | {"weights": ""} == row | {"weights": ""}
