"""The device that a command computes on: its choice, its name in words, and what a GPU needs that a processor does not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from fbnetv3.errors import InputError

AUTO = "auto"


def find_device(name: str = AUTO) -> str:
    """Return the name of a device after a check that it can be used.

    Args:
        name: `auto` is CUDA where this machine has it, else `cpu`. Under torchrun, `cuda` is the GPU of this process.

    Raises:
        InputError: the device cannot be used.
    """
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.zeros(1, device=name)  # only using it shows that driver, device and torch fit together
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device {name} cannot be used ({reason}); give auto, cpu, or a device of this machine"
        ) from None
    return name


def device_words(device: str | torch.device) -> str:
    """Return a device in words, with the name of the card: `cuda:0 (NVIDIA H200)`, or `cpu`."""
    device = torch.device(device)
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def computes_bf16(device: str | torch.device) -> bool:
    """Whether a device is a GPU with units for bfloat16: NVIDIA's since Ampere (2020), AMD's as torch says."""
    device = torch.device(device)
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators, of the CPU and of the device, at the end of the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was given. A clock that is read without this shows the time of the requests."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
