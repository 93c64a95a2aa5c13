"""FLOPs and parameters of a network in closed form. The formulas work on Python ints and, elementwise, on integer arrays.

One multiply-add counts as one FLOP. There are two conventions:

- `published` is the convention of the paper's tables. FLOPs are the multiply-adds of convolutions and linear layers
  (without biases) plus the inputs of every adaptive average pool: those of squeeze-and-excitation, of the head, and of the
  head's second pool, which has no effect because its map is 1x1 already. Batch norms are not counted. Parameters are the
  weights of convolutions and linear layers.
- `fvcore` is what `fvcore.nn.FlopCountAnalysis` counts on the built model in eval mode: the same without the head's second
  pool, plus 2 for every element of a batch norm. Parameters are all parameters.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any, NamedTuple

from fbnetv3.arch import LARGEST, Arch
from fbnetv3.errors import InputError, available

CONVENTIONS = ("published", "fvcore")
Number = Any  # an int, or an integer array that broadcasts


class Cost(NamedTuple):
    """Counts of one network (ints), or of many at once (integer arrays)."""

    conv: Number = 0  # multiply-adds of convolutions and linear layers
    pool: Number = 0  # inputs of the adaptive average pools in a built model
    noop_pool: Number = 0  # inputs of the released head's second pool, which is not built here
    norm: Number = 0  # elements of the inputs of batch norms
    weights: Number = 0  # weights of convolutions and linear layers
    extras: Number = 0  # biases and batch-norm parameters

    def flops(self, convention: str = "published") -> Number:
        """Return the FLOPs of one image in a convention (see the module's docstring)."""
        if convention == "published":
            return self.conv + self.pool + self.noop_pool
        if convention == "fvcore":
            return self.conv + self.pool + 2 * self.norm
        raise InputError(f"unknown FLOPs convention {convention!r}; {available(convention, CONVENTIONS)}")

    def params(self, convention: str = "published") -> Number:
        """Return the number of parameters in a convention (see the module's docstring)."""
        if convention == "published":
            return self.weights
        if convention == "fvcore":
            return self.weights + self.extras
        raise InputError(f"unknown parameter convention {convention!r}; {available(convention, CONVENTIONS)}")

    def __add__(self, other: Any) -> Cost:  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, n: Number) -> Cost:
        """Return the cost of `n` such parts."""
        return Cost(*(n * a for a in self))


def round_width(width: Number, divisor: int = 1) -> Number:
    """Return `width / divisor` rounded to a multiple of 8: 30 -> 32, 54 -> 56, 66 -> 64.

    It is rounded up where rounding down would lose more than 5%, so a positive width is never rounded to 0. The result is
    exact for integers and integer arrays.
    """
    # Everything is multiplied by the divisor, so that no floating-point number is involved.
    rounded = (2 * width + 8 * divisor) // (16 * divisor) * 8
    return rounded + 8 * (20 * divisor * rounded < 19 * width)


def conv_side(side: Number, k: Number, s: Number, pad: Number) -> Number:
    """Return the side of a convolution's output."""
    return (side + 2 * pad - k) // s + 1


def conv_norm(cin: Number, cout: Number, k: Number, area: Number, groups: Number = 1, bias: bool = False) -> Cost:
    """Return the cost of a convolution with a batch norm after it; `area` is the number of pixels of the output map."""
    weights = cin * cout * k * k // groups
    return Cost(conv=weights * area, norm=cout * area, weights=weights, extras=(2 + bias) * cout)


def inverted_residual(
    cin: Number,
    c: Number,
    k: Number,
    e: Number,
    s: Number,
    side: Number,
    *,
    se: bool,
    pad: int | None = None,
    se_from: str = "input",
    dw_norm_act: bool = True,
) -> tuple[Cost, Number]:
    """Return the cost of one MBConv on a square map with sides of `side` pixels, and the side of its output."""
    mid = round_width(cin * e)
    out = conv_side(side, k, s, k // 2 if pad is None else pad)
    # The factor (mid != cin) leaves out an expansion that would not change the width, also elementwise in arrays.
    cost = conv_norm(cin, mid, 1, side * side).times(mid != cin) + conv_norm(mid, c, 1, out * out)
    depthwise = conv_norm(mid, mid, k, out * out, groups=mid)
    # Without its norm, a depthwise convolution has no other parameters: it has no bias in either case.
    cost += depthwise if dw_norm_act else depthwise._replace(norm=0, extras=0)
    if se:
        squeeze = round_width(cin if se_from == "input" else mid, 4)
        weights = 2 * mid * squeeze  # one convolution down and one up, on a single pixel
        cost += Cost(conv=weights, pool=mid * out * out, weights=weights, extras=mid + squeeze)
    return cost, out


def pool_head(cin: Number, c: Number, e: Number, side: Number) -> Cost:
    """Return the cost of the efficient last stage (MBPool)."""
    mid = cin * e
    cost = conv_norm(cin, mid, 1, side * side)
    return cost + Cost(conv=mid * c, pool=mid * side * side, noop_pool=c, weights=mid * c)


def classifier(features: Number, num_classes: int) -> Cost:
    """Return the cost of the linear classifier."""
    return Cost(conv=features * num_classes, weights=features * num_classes, extras=num_classes)


class Part(NamedTuple):
    """A module of a network, the shape [channels, side, side] of its output, and its cost."""

    name: str  # stem, stages.0, ..., head, classifier
    channels: int
    side: int
    cost: Cost


def runs(arch: Arch, resolution: int | None = None) -> bool:
    """Return whether a network runs on square images of a side; None is the resolution of the architecture."""
    side = arch.resolution if resolution is None else resolution
    return side > 0 and min(_sides(arch, side)) > 0


def smallest_resolution(arch: Arch) -> int | None:
    """Return the side of the smallest square image that a network runs on, or None if no image is large enough.

    Where a row pads by less than half its kernel, a map may shrink to nothing.
    """
    # Larger images have larger maps, so the answer can be bisected.
    side = 1 + bisect.bisect_left(range(1, LARGEST + 1), True, key=lambda side: runs(arch, side))
    return side if side <= LARGEST else None


def check_resolution(arch: Arch, resolution: int | None = None) -> None:
    """Check that a network runs on square images of a side; None is the resolution of the architecture.

    Raises:
        InputError: the images are too small. The message says which are large enough.
    """
    if not runs(arch, resolution):
        side = arch.resolution if resolution is None else resolution
        least = smallest_resolution(arch)
        rule = "images of any size are too small" if least is None else f"give {least} or more pixels"
        raise InputError(f"{arch.name} cannot run on images of {side} x {side}: its maps shrink to nothing; {rule}")


def _sides(arch: Arch, side: int) -> Iterator[int]:
    """Yield the side of every map of a network; 0 or less where it cannot run."""
    side = conv_side(side, arch.stem.k, arch.stem.s, arch.stem.padding)
    yield side
    for row in arch.rows:
        for i in range(row.n):
            side = conv_side(side, row.k, row.s if i == 0 else 1, row.padding)
            yield side


def parts(arch: Arch, num_classes: int = 1000, in_chans: int = 3, resolution: int | None = None) -> Iterator[Part]:
    """Yield the modules of a network in order, with their costs on one square image.

    Args:
        resolution: side of the image in pixels; None for the resolution of the architecture.

    Raises:
        InputError: the network cannot run on images of this size.
    """
    check_resolution(arch, resolution)
    stem = arch.stem
    side = conv_side(arch.resolution if resolution is None else resolution, stem.k, stem.s, stem.padding)
    # The modules in the order of the forward pass, each on the map that the one before puts out.
    yield Part("stem", stem.c, side, conv_norm(in_chans, stem.c, stem.k, side * side, bias=True))
    cin = stem.c
    for index, rows in enumerate(arch.stages):
        total = Cost()
        for row in rows:
            for i in range(row.n):
                s = row.s if i == 0 else 1
                if row.block == "conv":
                    side = conv_side(side, row.k, s, row.padding)
                    part = conv_norm(cin, row.c, row.k, side * side, bias=True)
                else:
                    part, side = inverted_residual(
                        cin,
                        row.c,
                        row.k,
                        row.e,
                        s,
                        side,
                        se=row.se,
                        pad=row.pad,
                        se_from=row.se_from,
                        dw_norm_act=row.dw_norm_act,
                    )
                total += part
                cin = row.c
        yield Part(f"stages.{index}", cin, side, total)
    head = Cost(pool=cin * side * side) if arch.head is None else pool_head(cin, arch.head.c, arch.head.e, side)
    yield Part("head", arch.features, 1, head)
    yield Part("classifier", num_classes, 1, classifier(arch.features, num_classes))


def cost(arch: Arch, num_classes: int = 1000, in_chans: int = 3, resolution: int | None = None) -> Cost:
    """Return the cost of a network on one square image.

    Args:
        resolution: side of the image in pixels; None for the resolution of the architecture.

    Raises:
        InputError: the network cannot run on images of this size.
    """
    return sum((part.cost for part in parts(arch, num_classes, in_chans, resolution)), Cost())
