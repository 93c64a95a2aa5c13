"""How a training runs on this machine: device, precision, checkpoints, threads and seed. A recipe says none of this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from fbnetv3.counts import LEAST_SEED, check_seed
from fbnetv3.errors import InputError


@dataclass(frozen=True)
class Engine:
    """Settings of a training that are no part of the recipe.

    Attributes:
        device: name of a torch device, such as `cpu` or `cuda:0`.
        precision: `fp32`, or `bf16` for torch's autocast. Weights, optimizer and moving average are float32 in both.
        accumulate: number of equal parts into which a process divides its batch. The parts run one after the other, each
            with its own batch statistics, and their gradients are summed: this saves memory.
        compile: run the network through `torch.compile`.
        checkpoint_steps: also write a checkpoint within an epoch, every so many steps; 0 for none.
        tensorboard: also write event files for TensorBoard, which needs the tensorboard package.
    """

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = 1
    compile: bool = False
    checkpoint_steps: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision is {self.precision!r}; allowed: fp32, bf16")
        for name, low in (("accumulate", 1), ("checkpoint_steps", 0)):
            # `type(...) is int` also refuses True, which is an int to isinstance.
            if type(getattr(self, name)) is not int or getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: whole numbers from {low}")


DEFAULT_ENGINE = Engine()  # one CPU, float32, no checkpoints within epochs


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block.

    Two runs can be equal to the last bit only if they use the same number of threads, because sums over several threads are
    added in another order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return what `build` returns when torch's global generator starts at `seed`. The generator is restored afterwards.

    Raises:
        InputError: the seed is no whole number from -2**63 to 2**64 - 1.
    """
    # The weights of a new network are drawn on the CPU, so no CUDA generator is saved (which would initialise CUDA).
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed(seed, LEAST_SEED))
        return build()
