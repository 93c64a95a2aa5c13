"""Saved weights are measured again with the numbers of the training, and all images of a set are read."""

import json

import pytest
import torch

from fbnetv3 import build_model
from fbnetv3.files import load_torch, save_torch
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.training.data.packaged import load_images
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
    assert json.loads(out) == [
        {"split": "test", "images": 9, "acc1": trained["test_acc1"], "acc5": trained["test_acc5"]}
    ]
    code, out, _ = run("evaluate", trained["weights"], "--data", animals, *more, "--split", "val", "--json")
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

    monkeypatch.setattr("fbnetv3.training.accuracy.measure", full)
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
    one_line(run("evaluate", weights, "--data", animals), "has the classes")
    one_line(run("evaluate", weights, "--data", "fashion_mnist", "--resolution", 32), "leave out --resolution")
    one_line(run("evaluate", weights, "--data", "fashion_mnist", "--split", "holdout"), "unknown split 'holdout'")
    one_line(run("evaluate", "absent.pt", "--data", "fashion_mnist"), "absent.pt: no such file")
    one_line(
        run("evaluate", weights, "--data", "fashion_mnist", "--on-bad-image", "no"), "on_bad_image is 'no'; allowed"
    )
    torch.save({"weight": 5}, here / "odd.pt")
    one_line(run("evaluate", "odd.pt", "--data", animals), "does not say which network it is for")
    one_line(run("evaluate", "odd.pt", "--data", animals, "--model", "timm:test_efficientnet"), "not a state dict")
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
        run("evaluate", "odd.pt", "--data", animals, "--model", "nets_here:plain"), "the weights in odd.pt are not f"
    )
    network = build_model(ARCH, 10, 3)
    write_weight_file(
        here / "rgb.pt",
        WeightFile.of(network, data.classes, data.transforms.__class__(28, 28, (0.5,) * 3, (0.5,) * 3)),
    )
    one_line(
        run("evaluate", "rgb.pt", "--data", "fashion_mnist"), "the weights are for 3 channels of 28 pixels, but fashi"
    )


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
