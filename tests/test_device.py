"""Devices are found, named and left as they were. Cards are pretended here; tests/whole/test_gpu.py uses real ones."""

import os
import subprocess
import sys

import pytest
import torch

from fbnetv3 import InputError, device
from fbnetv3.device import (
    computes_bf16,
    device_words,
    find_count,
    find_device,
    find_precision,
    kept_generators,
    placed,
    plain_defaults,
    seed_generators,
    synchronise,
)
from tests.places import ROOT

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(
        InputError, match=f"--device {name} cannot be used .*; give auto, cpu, or a device of this machine"
    ):
        find_device(name)


def test_a_slip_in_a_device_is_said_in_one_line():
    with pytest.raises(InputError) as caught:
        find_device("CUDA")
    assert str(caught.value) == (
        "--device CUDA cannot be used (torch knows no such device; names are in lower case); give auto, cpu, or a device of "
        "this machine"
    )


@pytest.mark.parametrize(
    ("there", "rank", "found"), [(False, None, "cpu"), (True, None, "cuda"), (True, "3", "cuda:3")]
)
def test_auto_is_the_gpu_of_this_process_where_there_is_one(monkeypatch, there, rank, found):
    asked = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device) or torch.ones(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    if rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert find_device() == found
    assert asked == [found]


def test_the_cpu_is_there_and_cuda_under_torchrun_is_the_processes_own(monkeypatch):
    assert find_device("cpu") == "cpu"
    asked = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device) or torch.ones(1))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert find_device("cuda") == "cuda:3"
    assert asked == ["cuda:3"]


def test_a_card_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert device_words("cuda:1") == "cuda:1 (Card 1)"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert device_words("cuda") == "cuda:2 (Card 2)"
    assert device_words("cpu") == "cpu"


def test_the_cpu_computes_bf16_only_slowly_and_needs_no_waiting():
    assert not computes_bf16("cpu")
    synchronise(CPU)


def test_generators_are_restored():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with kept_generators(CPU):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeding_is_torch_s_own_but_leaves_other_gpus_alone(monkeypatch):
    torch.manual_seed(7)
    expected = torch.rand(3)
    seeds = {0: [], 1: []}
    fakes = [
        type("Generator", (), {"manual_seed": lambda self, seed, kept=kept: kept.append(seed)})()
        for kept in seeds.values()
    ]
    monkeypatch.setattr(torch.cuda, "init", lambda: monkeypatch.setattr(torch.cuda, "default_generators", fakes))
    with kept_generators(CPU):
        seed_generators(7, CPU)
        assert torch.equal(torch.rand(3), expected)
        seed_generators(8, torch.device("cuda:1"))
    assert seeds == {0: [], 1: [8]}


def test_a_gpu_without_a_number_is_the_present_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert placed("cuda") == torch.device("cuda:2")
    assert placed("cuda:1") == torch.device("cuda:1")
    assert placed("cpu") == CPU


@pytest.mark.parametrize("bf16", [True, False])
def test_precision_is_chosen_by_what_the_device_computes(monkeypatch, bf16):
    monkeypatch.setattr(device, "computes_bf16", lambda name: bf16 and name == "cuda:0")
    assert find_precision("auto", "cuda:0") == ("bf16" if bf16 else "fp32")
    assert find_precision("auto", "cpu") == "fp32"
    assert find_precision("tf32", "cuda:0") == "tf32"
    with pytest.raises(InputError, match="--precision 'fp8'; allowed: auto, fp32, tf32, bf16, fp16"):
        find_precision("fp8", "cpu")


@pytest.mark.parametrize(
    ("name", "sharing", "count"), [("cpu", 1, 0), ("cuda:0", 1, 8), ("cuda:0", 4, 3), ("cuda:0", 40, 1)]
)
def test_processors_are_divided_among_the_trainings_that_share_a_gpu(monkeypatch, name, sharing, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert find_count("--workers", "auto", name, 0, sharing) == count


@pytest.mark.parametrize("given", ["-1", "0", "2.0", "all", "", "9" * 5000])
def test_a_number_that_is_none(given):
    assert find_count("--threads", "3", "cuda:0", 1) == 3
    with pytest.raises(InputError, match=r"--threads .*; give auto, or a whole number from 1"):
        find_count("--threads", given, "cpu", 1)


# Each in a process of its own, because these settings of torch cannot all be undone.
TF32 = """
import contextlib, sys, warnings
import torch
from fbnetv3.device import tf32_units
warnings.simplefilter("error")
b = torch.backends
NAMES = ["cudnn.allow_tf32", "cudnn.fp32_precision", "cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision",
         "cuda.matmul.allow_tf32", "cuda.matmul.fp32_precision", "mkldnn.matmul.fp32_precision", "fp32_precision"]
def settings():
    found = {}
    for name in NAMES:
        with contextlib.suppress(RuntimeError, AttributeError):
            found[name] = eval(f"b.{name}")
    with contextlib.suppress(RuntimeError):
        found["matmul"] = torch.get_float32_matmul_precision()
    return found
exec(sys.argv[1])
before = settings()
for used in (True, False):
    with contextlib.suppress(ZeroDivisionError), tf32_units(used):
        inside = settings()
        assert (inside["cuda.matmul.allow_tf32"], inside["cudnn.allow_tf32"]) == (used, used), inside
        assert inside.get("cudnn.conv.fp32_precision", used) in (["tf32", True] if used else ["ieee", "none", False]), inside
        assert inside["matmul"] == ("high" if used else "highest"), inside
        1 / 0
    after = settings()
    # What could not be read before, because of mixed interfaces, may be readable now.
    assert {name: after[name] for name in before} == before, (before, after)
"""


@pytest.mark.parametrize(
    "first",
    [
        "",
        "torch.set_float32_matmul_precision('medium'); b.cudnn.allow_tf32 = False",
        # Only newer versions of torch know it.
        "hasattr(b.cudnn, 'conv') and setattr(b, 'fp32_precision', 'tf32')",
    ],
)
def test_float32_products_have_their_setting_and_get_the_old_one_back_after_an_error(first):
    subprocess.run(
        [sys.executable, "-c", TF32, first], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120
    )


@pytest.mark.parametrize(("where", "dtype"), [("meta", torch.float32), ("cpu", torch.float64), ("cpu", torch.float32)])
def test_default_device_and_type_are_the_usual_ones_inside_the_block(where, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(where):
            with plain_defaults():
                inside = torch.zeros(1)
            after = torch.zeros(1)
    finally:
        torch.set_default_dtype(before)
    assert (inside.device.type, inside.dtype) == ("cpu", torch.float32)
    assert (after.device.type, after.dtype) == (where, dtype)
