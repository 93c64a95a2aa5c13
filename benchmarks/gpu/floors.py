"""The least time that a network can take on a card: its operations over the card's rate, and its bytes over the bandwidth.

What a card reaches is measured, not read from a data sheet: a large copy, and large products of matrices. What a network needs
is counted on the built network.
"""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fbnetv3.device import DTYPES, clock_of, tf32_units
from fbnetv3.inference.optimize import time_calls

RATED = ("fp32", "tf32", "bf16")  # precisions whose products are measured
COPY = 2 << 30  # bytes of a copy: many times the card's cache
SIDE = 8192  # of the matrices
REPEATS = 10
aten = torch.ops.aten
_VIEWS = (aten._unsafe_view.default,)  # gives a tensor another shape, though its schema does not say so


@dataclass(frozen=True)
class Needs:
    """What one call of a network needs.

    Attributes:
        macs: multiply-adds of convolutions and linear layers.
        numbers: numbers that are read and written if every operation reads its inputs and writes its outputs.
        least: numbers that are read and written if only convolutions and linear layers do so, and all others happen on the way.
    """

    macs: int
    numbers: int
    least: int


@dataclass(frozen=True)
class Floor:
    """The least time of a call, and which of the two limits sets it."""

    seconds: float
    bound: str


class _Counter(TorchDispatchMode):
    """Counts multiply-adds, and the numbers that operations read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.numbers = self.least = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # A view moves no data. Its schema says that it returns an input without writing to it.
        returns = [value.alias_info for value in func._schema.returns]
        if func in _VIEWS or any(alias is not None and not alias.is_write for alias in returns):
            return out
        moved = sum(tensor.numel() for tensor in (*_tensors(args), *_tensors(kwargs), *_tensors(out)))
        self.numbers += moved
        if macs := _multiply_adds(func, args, out):
            self.macs += macs
            self.least += moved
        return out


def _tensors(tree: Any) -> Iterator[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(tree)
    return (leaf for leaf in leaves if isinstance(leaf, Tensor))


def _multiply_adds(func: Any, args: Any, out: Any) -> int:
    """Return the multiply-adds of a convolution or a product of matrices, and 0 for other operations."""
    if func is aten.convolution.default:
        return int(out.numel() * args[1][0].numel())  # each output is a sum over the weights of its channel
    if func in (aten.mm.default, aten.addmm.default):
        return int(out.numel() * args[-2].shape[-1])
    return 0


def needs(network: nn.Module, shape: tuple[int, ...]) -> Needs:
    """Count what a call of a network with images of a shape needs. Nothing is computed."""
    # On the device `meta` tensors have shapes and no values, so that also large batches are counted at once.
    hollow = copy.deepcopy(network).eval().to("meta")
    # Made before the counter starts: it is an input, which is counted when it is read.
    images = torch.empty(shape, device="meta")
    with torch.no_grad(), _Counter() as counter:
        hollow(images)
    return Needs(counter.macs, counter.numbers, counter.least)


@dataclass(frozen=True)
class Rates:
    """What a card reaches.

    Attributes:
        copy: bytes a second that a copy reads and writes.
        products: floating-point operations a second of a product of matrices, by precision.
    """

    copy: float
    products: Mapping[str, float]

    def floor(self, needed: Needs, precision: str) -> Floor:
        """Return the least time of a call in a precision."""
        limits = {
            "operations": 2 * needed.macs / self.products[precision],
            "bytes": needed.least * DTYPES[precision].itemsize / self.copy,
        }
        bound = max(limits, key=limits.__getitem__)
        return Floor(limits[bound], bound)


def measure_rates(device: torch.device, size: int = COPY, side: int = SIDE) -> Rates:
    """Measure what a card reaches, on random numbers: on zeros some cards are faster.

    Args:
        size: bytes of the copy.
        side: side of the matrices.
    """
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # Every byte is read once and written once.
    moved = 2 * size / _median(lambda: target.copy_(source), device)
    products = {}
    for precision in RATED:
        a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
        with tf32_units(precision == "tf32"):
            products[precision] = 2 * side**3 / _median(functools.partial(torch.matmul, a, b), device)
    return Rates(moved, products)


def _median(call: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of a call."""
    return statistics.median(time_calls({"": call}, REPEATS, clock_of(device))[""])
