"""Devices are found, named and left as they were. Cards are pretended here; tests/whole/test_gpu.py uses real ones."""

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.device import computes_bf16, device_words, find_device, kept_generators, synchronise

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(
        InputError, match=f"--device {name} cannot be used .*; give auto, cpu, or a device of this machine"
    ):
        find_device(name)


@pytest.mark.parametrize(
    ("there", "rank", "found"), [(False, None, "cpu"), (True, None, "cuda"), (True, "3", "cuda:3")]
)
def test_auto_is_the_gpu_of_this_process_where_there_is_one(monkeypatch, there, rank, found):
    asked = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device))
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
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert find_device("cuda") == "cuda:3"
    assert asked == ["cuda:3"]


def test_a_card_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert device_words("cuda:1") == "cuda:1 (Card 1)"
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
