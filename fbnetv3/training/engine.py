"""How a training runs on this machine: device, precision, checkpoints, threads and seed. A recipe says none of this."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from fbnetv3.counts import LEAST_SEED, check_seed
from fbnetv3.device import PRECISIONS, Precision, changed, kept_generators, placed, seed_generators, tf32_units
from fbnetv3.errors import InputError

COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
FETCH_STEPS = 32  # of a GPU: some seconds of training at most, and enough for it never to run out of work


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
        deterministic: use only algorithms whose results do not change from run to run. Two trainings on one GPU are equal
            to the last bit only so. It is slower. On a CPU they are equal anyway.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    accumulate: int = 1
    compile: bool | str = "off"
    checkpoint_steps: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):
            object.__setattr__(self, "compile", "default" if self.compile else "off")  # the dataclass is frozen
        for name, allowed in (("precision", PRECISIONS), ("compile", COMPILE_MODES)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if self.accumulate != 1 and self.cuda_graphs:
            raise InputError(
                f"accumulate is {self.accumulate} and compile {self.compile}, whose graphs write the gradients of all parts "
                "to one place, so that they cannot be summed; give compile default, or accumulate 1"
            )
        for name, low in (("accumulate", 1), ("checkpoint_steps", 0)):
            # `type(...) is int` also refuses True, which is an int to isinstance.
            if type(getattr(self, name)) is not int or getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: whole numbers from {low}")

    @property
    def cuda_graphs(self) -> bool:
        """Whether the network runs as CUDA graphs, on a GPU."""
        return self.compile in ("reduce-overhead", "max-autotune")


DEFAULT_ENGINE = Engine()  # one CPU, float32, no checkpoints within epochs


def fetch_steps(device: torch.device) -> int:
    """Return after how many steps losses are fetched from a device: the CPU need not be waited for."""
    return 1 if device.type == "cpu" else FETCH_STEPS


@contextlib.contextmanager
def machine_settings(engine: Engine) -> Iterator[None]:
    """Let torch compute as the engine says inside the block: on its device, in its precision. The settings are restored.

    Raises:
        InputError: `deterministic` is on, and the network needs an operation that has no such algorithm, or this process used
            a GPU before without it.
    """
    device = placed(engine.device)
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))  # for code that names no device, such as nccl's
            stack.enter_context(tf32_units(engine.precision == "tf32"))
            # Every batch has the same size, so it pays to try out which algorithm is the fastest.
            stack.enter_context(changed(torch.backends.cudnn, "benchmark", not engine.deterministic))
        if engine.deterministic:
            stack.enter_context(_deterministic())
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    name = "CUBLAS_WORKSPACE_CONFIG"
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(name)
    with changed(torch.backends.cudnn, "deterministic", True):
        os.environ.setdefault(name, ":4096:8")  # torch refuses cuBLAS without it
        torch.use_deterministic_algorithms(True)
        try:
            yield
        except RuntimeError as error:
            if "does not have a deterministic implementation" in str(error):
                raise InputError(
                    f"deterministic is on, but {str(error).split(',')[0]}; switch it off, or change the network"
                ) from error
            # torch reads the variable at the process's first product of matrices on a GPU, and never again.
            if name in str(error):
                raise InputError(
                    f"deterministic is on, but this process used a GPU before without it, or {name} has another value; set "
                    f"{name}=:4096:8 in the environment before Python starts"
                ) from error
            raise
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            if workspace is None:
                del os.environ[name]


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch, and the linear algebra of NumPy and SciPy, use `count` threads inside the block.

    Two runs can be equal to the last bit only if they use the same number of threads, because sums over several threads are
    added in another order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        # NumPy and SciPy have threads of their own. On the small matrices of a predictor, more than one makes them slower.
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return what `build` returns when torch's global generator starts at `seed`. The generator is restored afterwards.

    Raises:
        InputError: the seed is no whole number from -2**63 to 2**64 - 1.
    """
    # Weights are drawn where new tensors are made: on the CPU, unless the caller chose another default.
    device = torch.get_default_device()
    with kept_generators(device):
        seed_generators(check_seed(seed, LEAST_SEED), device)
        return build()
