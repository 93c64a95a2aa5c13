"""Compound scaling of an architecture (section 4.2, after EfficientNet), and the search for its coefficients.

The paper scales the smallest searched network down to FBNetV3-A and the largest up to F and G, and gives no coefficients.
Of the released networks, A is B at 224 pixels, and F is E with depth 1.09, width 1.14 and resolution 1.03 (but for the
padding quirk). G is no such multiple of E: it widens the 24- and 80-channel rows, and the stem, more than the others, and
doubles the last row, which a depth that leaves the other rows as they are cannot do.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from fbnetv3.arch import Arch, Block
from fbnetv3.complexity import cost, round_width
from fbnetv3.errors import InputError

RULE = (1.2, 1.1, 1.15)  # depth, width and resolution that EfficientNet raises to one power
STEP = 0.01  # between the coefficients that are tried
ROUGHLY = 1.4  # how far FLOPs may be from depth x width^2 x resolution^2: stem, head and rounding follow no power
SIDE = 8  # resolutions are multiples of it


@dataclass(frozen=True)
class Scaled:
    """A scaled architecture, its coefficients and its FLOPs; the higher the score, the better."""

    arch: Arch
    depth: float
    width: float
    resolution: float
    flops: int
    score: float


def scale(arch: Arch, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0) -> Arch:
    """An architecture with more (or fewer) blocks, channels and pixels.

    The blocks of a row of Table 2 (a first block and the rest, of equal width) are multiplied together and rounded, and
    every block that differs from its neighbours stays; widths are rounded to multiples of 8 as in the search space, the
    side of the image to the nearest multiple of 8. Stem and head stay, as in the released F. Coefficients of 1 change
    nothing.

    Raises:
        InputError: a coefficient that is not above 0.
    """
    for name, value in (("depth", depth), ("width", width), ("resolution", resolution)):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name} is {value}; give a coefficient above 0")

    def wider(row: Block) -> Block:
        return row if width == 1.0 else dataclasses.replace(row, c=int(round_width(row.c * width)))

    stages = tuple(
        tuple(wider(row) for group in _groups(stage) for row in _deeper(group, depth)) for stage in arch.stages
    )
    side = arch.resolution if resolution == 1.0 else max(SIDE, _nearest(arch.resolution * resolution / SIDE) * SIDE)
    if (stages, side) == (arch.stages, arch.resolution):
        return arch
    name = f"{arch.name}_d{depth:g}_w{width:g}_r{resolution:g}"
    return dataclasses.replace(arch, name=name, stages=stages, resolution=side)


def coefficients(
    arch: Arch,
    target: float,
    *,
    convention: str = "published",
    tolerance: float = 0.01,
    num_classes: int = 1000,
    in_chans: int = 3,
    score: Callable[[Arch], float] | None = None,
    keep_resolution: bool = False,
) -> list[Scaled]:
    """Every different scaled architecture whose FLOPs come within `tolerance` (a share) of the target, best first.

    All three coefficients go the same way, up or down; of those that round to the same blocks, channels or pixels the
    middle one stands for all. Without a `score`, the best is the one whose coefficients are
    nearest to EfficientNet's rule, powers of `RULE` with one exponent, by the distance of their logarithms.
    `keep_resolution` is for images of one size.

    Raises:
        InputError: a target or tolerance that is not above 0, or none that comes within it; the message names the nearest.
    """
    if not (0.0 < target < math.inf and 0.0 < tolerance < 1.0):
        raise InputError(f"target is {target:g}, tolerance {tolerance:g}; give FLOPs above 0 and a share below 1")
    ratio = target / cost(arch, num_classes, in_chans).flops(convention)
    low, high = min(ratio, 1.0), max(ratio, 1.0)
    depths = _distinct(_steps(low, high), lambda depth: scale(arch, depth=depth).stages)
    widths = _distinct(_steps(low**0.5, high**0.5), lambda width: scale(arch, width=width).stages)
    resolutions = [1.0] if keep_resolution else _steps(low**0.5, high**0.5)
    sides = _distinct(resolutions, lambda resolution: scale(arch, resolution=resolution).resolution)
    found, nearest = [], (math.inf, 0)
    for depth, width, resolution in itertools.product(depths, widths, sides):
        if not 1 / ROUGHLY < depth * width**2 * resolution**2 / ratio < ROUGHLY:
            continue  # not worth counting
        scaled = scale(arch, depth, width, resolution)
        flops = cost(scaled, num_classes, in_chans).flops(convention)
        off = abs(flops / target - 1.0)
        nearest = min(nearest, (off, flops))
        if off <= tolerance:
            value = score(scaled) if score else -distance_to_rule(depth, width, resolution)
            found.append(Scaled(scaled, depth, width, resolution, flops, value))
    if not found:
        raise InputError(
            f"no scaling of {arch.name} has {target:,.0f} FLOPs within {tolerance:.1%}; the nearest has {nearest[1]:,}"
        )
    return sorted(found, key=lambda s: -s.score)


def distance_to_rule(depth: float, width: float, resolution: float) -> float:
    """How far the logarithms of coefficients are from the nearest power of `RULE`; 0 on it."""
    logs, line = [math.log(v) for v in (depth, width, resolution)], [math.log(v) for v in RULE]
    power = sum(a * b for a, b in zip(logs, line, strict=True)) / sum(b * b for b in line)
    return math.dist(logs, [power * b for b in line])


def _steps(low: float, high: float) -> list[float]:
    """Coefficients from `low` to `high`, 1 among them."""
    first, last = math.floor((low - 1.0) / STEP), math.ceil((high - 1.0) / STEP)
    return [round(1.0 + i * STEP, 4) for i in range(first, last + 1) if 1.0 + i * STEP > 0.0]


def _distinct(values: list[float], rounded: Callable[[float], object]) -> list[float]:
    """Of ascending values that round to the same, the middle one, or 1."""
    runs = [list(run) for _, run in itertools.groupby(values, rounded)]
    return [1.0 if 1.0 in run else run[len(run) // 2] for run in runs]


def _groups(stage: tuple[Block, ...]) -> list[list[Block]]:
    """The rows of Table 2 in a stage: a single first block and the rest that follow it with its width."""
    groups: list[list[Block]] = []
    for row in stage:
        if groups and len(groups[-1]) == 1 and groups[-1][0].n == 1 and row.s == 1 and row.c == groups[-1][0].c:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _deeper(group: list[Block], depth: float) -> list[Block]:
    before = sum(row.n for row in group)
    rest = max(_nearest(before * depth) - sum(row.n for row in group[:-1]), 1)
    return [*group[:-1], dataclasses.replace(group[-1], n=rest)]


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)
