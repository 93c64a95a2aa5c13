"""The options of `fbnetv3 train` become a network, a recipe, data and a seed."""

import os
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
from fbnetv3.training.engine import seeded


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
