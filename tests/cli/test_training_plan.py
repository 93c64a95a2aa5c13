"""The options of `fbnetv3 train` become a network, a recipe, data and a seed."""

import os
import shutil
import sys

import pytest
import torch

from fbnetv3 import InputError, device
from fbnetv3.cli.training_plan import (
    Settings,
    changes,
    find_modules_here,
    find_settings,
    load_teacher,
    plan_of_pair,
    plan_of_recipe,
)
from fbnetv3.networks.named import find_network
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.recipes import load_recipe
from fbnetv3.training.engine import seeded
from fbnetv3.transforms import Transforms
from tests.training.data.examples import make_folder


def options():
    return {"resolution": None, "limit": 5, "workers": 0, "download": False}


def test_changes_are_read_as_yaml():
    assert changes(["lr=1e-3", "ema=true", "epochs=3"]) == {"lr": 1e-3, "ema": True, "epochs": 3}
    assert changes(None) == {}
    with pytest.raises(InputError, match="--set 'lr'; give FIELD=VALUE"):
        changes(["lr"])


def test_a_pair_brings_its_data_and_seed(pair):
    plan = plan_of_pair(pair, None, None, None, {"lr": 0.5}, options())
    assert (plan.spec, plan.network, plan.seed, plan.out) == ("fashion_mnist", None, 0, pair.parent / "retrained")
    assert (plan.recipe.lr, plan.data.count("train")) == (0.5, 50)
    assert plan_of_pair(pair, None, None, 3, {}, options()).seed == 3
    assert seeded(plan.build, 0).num_classes == 10


def test_a_recipe_needs_a_network_data_and_a_folder(tmp_path):
    plan = plan_of_recipe("fbnetv3_a0", "fashion_mnist/micro", "fashion_mnist", tmp_path, None, {}, options())
    assert (plan.spec, plan.network, plan.seed, plan.notes) == ("fashion_mnist", find_network("fbnetv3_a0"), 0, [])
    seeded(plan.build, 0)
    assert plan.notes[0].startswith("model: fbnetv3:fbnetv3_a0")
    with pytest.raises(InputError, match="--recipe, --out missing; give --pair, or"):
        plan_of_recipe("fbnetv3_a0", None, "fashion_mnist", None, None, {}, options())


@pytest.mark.parametrize("name", ["timm:test_resnet", "fbnetv3_a0"])
def test_a_training_starts_from_weights(tmp_path, animals, name):
    """With their network and preprocessing; the classifier is new where the classes are others."""
    network = find_network(name)
    transforms = Transforms(20, 16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    model = network.construct(3, 3).model
    model.derived_from = ("fbnetv3_a:fb",)
    path = tmp_path / "weights.pt"
    write_weight_file(path, WeightFile.of(model, ("x", "y", "z"), transforms, network))

    def plan(data, **more):
        return plan_of_recipe(
            None, "fashion_mnist/micro", data, tmp_path / "out", None, {}, options() | more, str(path)
        )

    started = plan(str(animals))
    assert (started.data.transforms, started.network) == (transforms, None if ":" not in name else network)
    built = seeded(started.build, 1)
    assert all(torch.equal(value, built.state_dict()[key]) for key, value in model.state_dict().items())
    assert built.derived_from == ("fbnetv3_a:fb",)
    assert started.notes[0] == f"starting from {path}: {name}, 3 classes"
    assert plan(str(animals), resolution=32).data.transforms == Transforms(40, 32, transforms.mean, transforms.std)
    four = make_folder(tmp_path / "four")
    for split in ("train", "val", "test"):
        shutil.copytree(four / split / "cow", four / split / "dog")
    state = seeded(plan(str(four)).build, 1).state_dict()
    fresh = {key for key, value in model.state_dict().items() if value.shape != state[key].shape}
    assert fresh == ({"fc.weight", "fc.bias"} if ":" in name else {"classifier.weight", "classifier.bias"})
    with pytest.raises(InputError, match="--out missing; give --weights with --data and --out"):
        plan_of_recipe(None, None, str(animals), None, None, {}, options(), str(path))
    default = plan_of_recipe(None, None, str(animals), tmp_path, None, {"epochs": 2}, options(), str(path))
    assert default.recipe == load_recipe("finetune/small").replace(epochs=2)
    assert default.notes[1] == "recipe: finetune/small, for fine-tuning on 15 images"


def test_modules_of_the_current_directory_are_found(here):
    for name, found in (("timm:net", False), ("fbnetv3_a", False), ("nets_here:net", True)):
        find_modules_here(name)
        assert (str(here) in sys.path) == found


def test_a_teacher_goes_with_distillation(pair):
    plain = plan_of_pair(pair, None, None, None, {}, options())
    assert load_teacher(None, plain) is None
    with pytest.raises(InputError, match="the recipe does not distil"):
        load_teacher("fbnetv3_g:fb", plain)
    with pytest.raises(InputError, match=r"the recipe distils with weight 0\.5; give --teacher"):
        load_teacher(None, plan_of_pair(pair, None, None, None, {"distillation": 0.5}, options()))


def test_a_machine_with_a_gpu_is_used(monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *_, device: torch.ones(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(device, "computes_bf16", lambda name: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    settings = find_settings("auto", "auto", "auto", "auto")
    assert settings == Settings("cuda:1", "bf16", 6, 6)
    assert settings.notes() == ["training on cuda:1 (NVIDIA H200), bf16, 6 threads, 6 readers"]
    assert settings.row == {"device": "cuda:1 (NVIDIA H200)", "precision": "bf16", "threads": 6}
    # What is given is taken.
    assert find_settings("cuda:0", "tf32", "1", "0") == Settings("cuda:0", "tf32", 1, 0)


def test_a_machine_without_a_gpu_trains_as_ever(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = find_settings("auto", "auto", "auto", "auto")
    assert settings == Settings("cpu", "fp32", 1, 0)
    assert settings.notes() == []
    assert find_settings("auto", "bf16", "auto", "auto").notes() == ["training on cpu, bf16, 1 thread, 0 readers"]
