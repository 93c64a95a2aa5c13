"""How a training runs on this machine: device, precision, checkpoints, threads and seed. A recipe says none of this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from fbnetv3.counts import LEAST_SEED, check_seed
from fbnetv3.device import PRECISIONS, Precision
from fbnetv3.errors import InputError

COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")


@dataclass(frozen=True)
class Engine:
    """Settings of a training that are no part of the recipe.

    Attributes:
        device: name of a torch device, such as `cpu` or `cuda:0`.
        precision: `fp32` is full float32, also on a GPU. `tf32` lets a GPU round the factors of products. `bf16` and `fp16` are
            torch's autocast, fp16 with a gradient scaler. Weights, optimizer and moving average are float32 in all of them.
        accumulate: number of equal parts into which a process divides its batch. The parts run one after the other, each
            with its own batch statistics, and their gradients are summed: this saves memory.
        compile: `off`, or the mode in which `torch.compile` compiles the network, one of `COMPILE_MODES`. `reduce-overhead`
            runs it as CUDA graphs on a GPU. True is `default`, and False `off`.
        checkpoint_steps: also write a checkpoint within an epoch, every so many steps; 0 for none.
        tensorboard: also write event files for TensorBoard, which needs the tensorboard package.
        deterministic: use only algorithms whose results do not change from run to run. Two trainings on one GPU are equal
            to the last bit only so. It is slower. On a CPU they are equal anyway.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    accumulate: int = 1
    compile: bool | str = "off"
    checkpoint_steps: int = 0
    tensorboard: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):
            object.__setattr__(self, "compile", "default" if self.compile else "off")  # the dataclass is frozen
        for name, allowed in (("precision", PRECISIONS), ("compile", COMPILE_MODES)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
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
