"""Compound scaling of an architecture (section 4.2, after EfficientNet), and the search for its coefficients.

The paper scales the smallest searched network down to FBNetV3-A and the largest one up to F and G. It gives no coefficients.
Among the released networks, A is B at 224 pixels, and F is E with depth 1.09, width 1.14 and resolution 1.03 (except for the
paddings). G is no scaled E: it widens the rows of 24 and 80 channels and the stem more than the other rows, and it doubles
the last row, which no depth coefficient does without changing other rows too.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from fbnetv3.arch import MOST_BLOCKS, Arch, Block
from fbnetv3.complexity import cost, round_width, runs
from fbnetv3.errors import InputError

RULE = (1.2, 1.1, 1.15)  # depth, width and resolution of EfficientNet, all raised to the same power
STEP = 0.01  # distance of the coefficients that are tried
ROUGHLY = (
    1.4  # largest factor between FLOPs and depth x width^2 x resolution^2, which stem, head and rounding do not follow
)
MOST_TRIES = 2_000_000  # combinations of coefficients; larger steps are taken where there would be more
FARTHEST = (
    200  # largest factor between the FLOPs of a network and of its scalings; EfficientNet-B7 has 95 times those of B0
)
SIDE = 8  # resolutions are multiples of it


@dataclass(frozen=True)
class Scaled:
    """A scaled architecture with its coefficients, its FLOPs and a score; a higher score is better."""

    arch: Arch
    depth: float
    width: float
    resolution: float
    flops: int
    score: float


def scale(arch: Arch, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0) -> Arch:
    """Return an architecture with more (or fewer) blocks, channels and pixels.

    The depth multiplies the number of blocks in a row of Table 2 (a first block and more blocks of the same width), and
    the result is rounded. A first block that differs from the others stays. Widths are rounded to multiples of 8 as in the
    search space, and the side of the image is rounded to the nearest multiple of 8. Stem and head do not change, as in the
    released F. Coefficients of 1 change nothing.

    Raises:
        InputError: a coefficient is not above 0.
    """
    for name, value in (("depth", depth), ("width", width), ("resolution", resolution)):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name} is {value}; give a coefficient above 0")

    def wider(row: Block) -> Block:
        return row if width == 1.0 else dataclasses.replace(row, c=int(round_width(row.c * width)))

    # Rows keep their kernel, expansion and stride, so the scaled network has the same stages.
    stages = tuple(
        tuple(wider(row) for group in _groups(stage) for row in _deeper(group, depth)) for stage in arch.stages
    )
    side = arch.resolution if resolution == 1.0 else max(SIDE, _nearest(arch.resolution * resolution / SIDE) * SIDE)
    if (stages, side) == (arch.stages, arch.resolution):
        return arch  # another name for the same network would only confuse
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
    """Return all scaled architectures whose FLOPs are close to a target, best first.

    All three coefficients are at least 1, or all are at most 1. Of the coefficients that round to the same blocks, channels
    or pixels, only the middle one is tried.

    Args:
        target: the FLOPs to reach, in the given `convention`.
        tolerance: allowed relative difference from the target, such as 0.01 for 1%.
        score: rates an architecture; the best one comes first. Without it, the best coefficients are those nearest to
            EfficientNet's rule (powers of `RULE` with one exponent), by the distance of their logarithms.
        keep_resolution: do not scale the resolution, for data with images of one size.

    Raises:
        InputError: a target or tolerance out of range, a target that is out of reach, or no architecture is close enough; the
            message names the nearest.
    """
    if not (0.0 < target < math.inf and 0.0 < tolerance < 1.0):
        raise InputError(
            f"target is {target:g}, tolerance {tolerance:g}; give FLOPs above 0 and a tolerance between 0 and 1"
        )
    ratio = target / cost(arch, num_classes, in_chans).flops(convention)
    if ratio > FARTHEST:
        most = FARTHEST * target / ratio
        raise InputError(
            f"target is {target:g}, {ratio:.2g} times the FLOPs of {arch.name}, which is out of reach; give at most {FARTHEST} "
            f"times its FLOPs, {most:.4g}"
        )
    grid = _grid(arch, ratio, STEP, keep_resolution)
    step = STEP
    while math.prod(map(len, grid)) > MOST_TRIES:
        step *= 2
        grid = _grid(arch, ratio, step, keep_resolution)
    found, nearest = [], (math.inf, 0)
    for depth, width, resolution in itertools.product(*grid):
        if not 1 / ROUGHLY < depth * width**2 * resolution**2 / ratio < ROUGHLY:
            continue  # counting its FLOPs would be a waste: it cannot be within the tolerance
        scaled = scale(arch, depth, width, resolution)
        if not runs(scaled):
            continue
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
    """Return the distance of the coefficients' logarithms from the nearest power of `RULE`. It is 0 for such a power."""
    # The powers of RULE are a line in logarithms, and `power` is the point of the line nearest to the coefficients.
    logs, line = [math.log(v) for v in (depth, width, resolution)], [math.log(v) for v in RULE]
    power = sum(a * b for a, b in zip(logs, line, strict=True)) / sum(b * b for b in line)
    return math.dist(logs, [power * b for b in line])


def _grid(arch: Arch, ratio: float, step: float, keep_resolution: bool) -> tuple[list[float], list[float], list[float]]:
    """Return the depths, widths and resolutions that may make up a ratio of FLOPs and that round to different networks."""
    # FLOPs grow with depth, and with the squares of width and resolution: one factor alone could make up the whole ratio.
    low, high = min(ratio, 1.0), max(ratio, 1.0)
    deepest = max(1.0, min(high, 0.9 * MOST_BLOCKS / sum(row.n for row in arch.rows)))
    depths = _distinct(_steps(low, deepest, step), lambda depth: scale(arch, depth=depth).stages)
    widths = _distinct(_steps(low**0.5, high**0.5, step), lambda width: scale(arch, width=width).stages)
    resolutions = [1.0] if keep_resolution else _steps(low**0.5, high**0.5, step)
    sides = _distinct(resolutions, lambda resolution: scale(arch, resolution=resolution).resolution)
    return depths, widths, sides


def _steps(low: float, high: float, step: float) -> list[float]:
    """Return the coefficients from `low` to `high`; 1 is one of them."""
    # Multiples of the step counted from 1 and rounded, so that the same coefficient is always the same number.
    first, last = math.floor((low - 1.0) / step), math.ceil((high - 1.0) / step)
    return [round(1.0 + i * step, 4) for i in range(first, last + 1) if 1.0 + i * step > 0.0]


def _distinct(values: list[float], rounded: Callable[[float], object]) -> list[float]:
    """Return one value of every run of ascending values that are rounded to the same: 1 if it is there, else the middle."""
    runs = [list(run) for _, run in itertools.groupby(values, rounded)]
    return [1.0 if 1.0 in run else run[len(run) // 2] for run in runs]


def _groups(stage: tuple[Block, ...]) -> list[list[Block]]:
    """Return the rows of Table 2 in a stage: each is a single first block and the blocks of the same width after it."""
    groups: list[list[Block]] = []
    for row in stage:
        if groups and len(groups[-1]) == 1 and groups[-1][0].n == 1 and row.s == 1 and row.c == groups[-1][0].c:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _deeper(group: list[Block], depth: float) -> list[Block]:
    """Return a row of Table 2 with `depth` times as many blocks; only the number of its last blocks changes."""
    before = sum(row.n for row in group)
    # Only the last row takes more blocks, or fewer, but it keeps at least one.
    rest = max(_nearest(before * depth) - sum(row.n for row in group[:-1]), 1)
    return [*group[:-1], dataclasses.replace(group[-1], n=rest)]


def _nearest(value: float) -> int:
    # Halves go up; Python's round would send them to the even neighbour.
    return math.floor(value + 0.5)
