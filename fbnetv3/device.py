"""The device that a command computes on: its choice, its name in words, and what a GPU needs that a processor does not."""

from __future__ import annotations

import contextlib
import operator
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch

from fbnetv3.errors import InputError, quote

AUTO = "auto"
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# Of the tensors of a network that is moved to a precision.
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
MOST_SHARED = 8  # processors that `auto` gives to one training: more readers or threads hardly help one GPU


def find_device(name: str = AUTO) -> str:
    """Return the name of a device after a check that it can be used.

    Args:
        name: `auto` is CUDA where this machine has it, else `cpu`. Under torchrun or SLURM, `cuda` is the GPU of this process.

    Raises:
        InputError: the device cannot be used.
    """
    name = named_device(name)
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        # Only using it shows that driver, device and torch fit together. `meta` holds no number to be read.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # of all devices that torch was ever built for
            reason = "torch knows no such device; names are in lower case"
        raise InputError(
            f"--device {name} cannot be used ({reason}); give auto, cpu, or a device of this machine"
        ) from None
    return name


def named_device(name: str) -> str:
    """Return the name of a device, for `auto` that of what this process may use. It is not checked, and no GPU is touched."""
    if name != AUTO:
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def placed(device: str | torch.device) -> torch.device:
    """Return a device with its index: `cuda` is the GPU that torch uses at present. Others stay as they are."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def device_words(device: str | torch.device) -> str:
    """Return a device in words, with the name of the card: `cuda:0 (NVIDIA H200)`, or `cpu`."""
    device = placed(device)
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def computes_bf16(device: str | torch.device) -> bool:
    """Whether a device is a GPU with units for bfloat16: NVIDIA's since Ampere (2020), AMD's as torch says."""
    device = torch.device(device)
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def find_precision(name: str, device: str | torch.device) -> Precision:
    """Return a precision of trainings by its name.

    Args:
        name: one of `PRECISIONS`, or `auto`: bf16 on a GPU with units for it, else fp32.

    Raises:
        InputError: there is no such precision.
    """
    if name == AUTO:
        return "bf16" if computes_bf16(device) else "fp32"
    if name not in PRECISIONS:
        raise InputError(f"--precision {quote(name)}; allowed: {AUTO}, {', '.join(PRECISIONS)}")
    return name


def find_count(option: str, given: str, device: str | torch.device, on_cpu: int, sharing: int = 1) -> int:
    """Return a number of threads, or of processes that read images.

    Args:
        option: the option that the number was given to, for the message.
        given: a whole number from `on_cpu`, or `auto`: on the CPU `on_cpu`, on a GPU the processors of this machine divided
            by the trainings that share it, from 1 to `MOST_SHARED`.
        sharing: how many trainings, or processes of one, run on this machine.

    Raises:
        InputError: it is no such number.
    """
    if given == AUTO:
        if torch.device(device).type == "cpu":
            return on_cpu
        # The processors that this process may use: a job of a cluster often has few of its machine's.
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(MOST_SHARED, count // sharing))
    if not (given.isascii() and given.isdigit() and len(given) < 7) or int(given) < on_cpu:
        raise InputError(f"{option} {quote(given)}; give {AUTO}, or a whole number from {on_cpu}")
    return int(given)


@contextlib.contextmanager
def changed(place: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute, such as a setting in `torch.backends.cudnn`, another value inside the block."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextlib.contextmanager
def tf32_units(used: bool) -> Iterator[None]:
    """Let a GPU compute float32 products in TF32 inside the block, or forbid it. The settings are restored afterwards.

    torch has two interfaces to these settings, and reading the older one raises an error if somebody used the newer one alone.
    Setting both keeps all code working that reads one of them, such as torch.compile.
    """
    before: list[tuple[Callable[[Any], None], Any]] = []
    for get, put in _float32_settings():
        with contextlib.suppress(RuntimeError, AttributeError):  # mixed interfaces; a torch without the newer one
            before.append((put, get()))
    with _silent():
        torch.set_float32_matmul_precision("high" if used else "highest")
        torch.backends.cudnn.allow_tf32 = used
        if hasattr(torch.backends.cudnn, "conv"):
            # Without this, convolutions would follow a setting for all backends.
            torch.backends.cudnn.fp32_precision = "tf32" if used else "ieee"
    try:
        yield
    finally:
        with _silent():
            for put, value in before:
                put(value)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop warnings: some versions of torch warn of the older interface to the settings of float32 products."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _float32_settings() -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Return how each setting of float32 products is read and written: the older interface first, which sets both."""

    def attribute(path: str, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        def place() -> Any:
            return operator.attrgetter(path)(torch.backends)

        return lambda: getattr(place(), name), lambda value: setattr(place(), name, value)

    newer = ("cudnn", "cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.matmul")
    return [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        attribute("cudnn", "allow_tf32"),
        *(attribute(path, "fp32_precision") for path in newer),
    ]


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of a device. Unlike `torch.manual_seed`, other GPUs keep theirs."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # before it there are no generators
        torch.cuda.default_generators[placed(device).index].manual_seed(seed)


@contextlib.contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators, of the CPU and of the device, at the end of the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def generator_states(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the states of torch's global generators: of the CPU and, on CUDA, of the GPU. Dropout draws from the device's."""
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


def restore_generators(states: Sequence[torch.Tensor], device: torch.device) -> None:
    """Put torch's global generators into states that `generator_states` returned.

    The states may be of another kind of device: without a state of its GPU a generator goes on as it is.
    """
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was given. A clock that is read without this shows the time of the requests."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds that is read when the device has done all that it was given."""

    def read() -> float:
        synchronise(device)
        return time.perf_counter()

    return read


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """Create tensors on the CPU in float32 inside the block, whatever default device and type the user has set.

    It is for what always runs on the CPU. It is also a decorator.
    """
    new, dtype = torch.empty(0), torch.get_default_dtype()
    if (new.device.type, dtype) == ("cpu", torch.float32):  # the block below would make every call of torch slower
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
