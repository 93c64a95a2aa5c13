"""What a space holds: its sizes, and what of given networks lies outside it (Table 2, section 3.5).

fbnetv3 search audit released
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fbnetv3.arch import ARCHS, Arch, Block, same_padding
from fbnetv3.complexity import cost
from fbnetv3.search.space.space import Coordinate, Row, SearchSpace


@dataclass(frozen=True)
class Outside:
    """A value of a network that the space does not have as written.

    `reached_from` is the width that the space does have and builds as this one; else the network is really outside.
    """

    coordinate: str
    value: str
    allowed: str
    reached_from: int | None = None


@dataclass(frozen=True)
class NetworkAudit:
    """A network against a space. Padding is no coordinate; `same_padding_flops` are those with padding k // 2."""

    network: str
    outside: tuple[Outside, ...]
    flops: int  # published convention
    same_padding_flops: int

    @property
    def contained(self) -> bool:
        """Whether the space has the network, padding apart: its widths as built."""
        return all(entry.reached_from is not None for entry in self.outside)


@dataclass(frozen=True)
class Audit:
    """Sizes of a space, and networks against it."""

    space: str
    architectures: int
    resolutions: int
    built: int  # architectures after rounding of widths
    recipes: int
    networks: tuple[NetworkAudit, ...]

    @property
    def collapse(self) -> float:
        """How many times fewer architectures there are as built than as written."""
        return self.architectures / self.built

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with what follows from it."""
        data = dataclasses.asdict(self) | {"collapse": self.collapse}
        for row, network in zip(data["networks"], self.networks, strict=True):
            row["contained"] = network.contained
        return data


def audit(space: SearchSpace, networks: Sequence[Arch] = tuple(ARCHS.values())) -> Audit:
    """Sizes of a space, and every coordinate of the networks (by default the released A to G) outside it."""
    resolutions = len(space.resolutions)
    found = tuple(
        NetworkAudit(arch.name, tuple(outside(space, arch)), cost(arch).flops(), cost(same_padding(arch)).flops())
        for arch in networks
    )
    return Audit(space.name, space.arch_size, resolutions, space.built_size, space.recipe_size, found)


def outside(space: SearchSpace, arch: Arch) -> Iterator[Outside]:
    """Everything of a network that the space does not have, padding apart.

    A stage's blocks are divided among the space's rows of that stage in the way that fits best.
    """
    stages = _stages(space)
    shape = f"stem {arch.stem.k} x {arch.stem.k} / {arch.stem.s}, strides {[stage[0].s for stage in arch.stages]}"
    k, _, s = space.stem
    allowed = f"stem {k} x {k} / {s}, strides {[stage[0][1].s for stage in stages]}"
    if shape != allowed:
        yield Outside("stages", shape, allowed)
        return
    for kind in sorted({_kind(row) for row in arch.rows} - {_kind(Block("ir", 8))}):
        yield Outside("block", kind, _kind(Block("ir", 8)))
    uses = [_Use("resolution", space.resolution, arch.resolution), _Use("stem.c", space.stem[1], arch.stem.c)]
    for rows, blocks in zip(stages, arch.stages, strict=True):
        single = [row for row in blocks for _ in range(row.n)]
        divided = list(_divisions(single, len(rows)))
        if not divided:
            yield Outside(f"row{rows[0][0]}", f"{len(single)} blocks in the stage", f"{len(rows)} rows")
            continue
        uses += min((_divided(rows, parts) for parts in divided), key=functools.partial(_misfit, space))
    if arch.head is None:
        yield Outside("head", "none", f"e {space.head[0]}, c {space.head[1]}")
    else:
        uses += [_Use("head.e", space.head[0], arch.head.e), _Use("head.c", space.head[1], arch.head.c)]
    yield from _judge(space, uses)


@dataclass(frozen=True)
class _Use:
    """That a network has `value` where the space has `entry`."""

    name: str
    entry: str | int
    value: int


def _kind(row: Block) -> str:
    """What every block of a space has alike."""
    return f"{row.block}, {row.act}, squeeze from {row.se_from}{'' if row.dw_norm_act else ', bare depthwise'}"


def _stages(space: SearchSpace) -> list[list[tuple[int, Row]]]:
    """The rows of a space with their numbers, by stage."""
    stages: list[list[tuple[int, Row]]] = []
    for i, row in enumerate(space.rows):
        if row.s > 1 or not stages:
            stages.append([])
        stages[-1].append((i, row))
    return stages


def _divisions(blocks: list[Block], parts: int) -> Iterator[list[list[Block]]]:
    """All ways to cut a list into so many parts, none empty."""
    for cuts in itertools.combinations(range(1, len(blocks)), parts - 1):
        edges = [0, *cuts, len(blocks)]
        yield [blocks[a:b] for a, b in itertools.pairwise(edges)]


def _uses(i: int, row: Row, blocks: list[Block]) -> Iterator[_Use]:
    for j, block in enumerate(blocks):
        which = min(j, 1)
        yield _Use(f"row{i}.k", row.k[which], block.k)
        yield _Use(f"row{i}.e", row.e[which], block.e)
        yield _Use(f"row{i}.c", row.c, block.c)
        yield _Use(f"row{i}.se", row.se, block.se)
    yield _Use(f"row{i}.n", row.n, len(blocks))


def _divided(rows: list[tuple[int, Row]], parts: list[list[Block]]) -> list[_Use]:
    return [use for (i, row), part in zip(rows, parts, strict=True) for use in _uses(i, row, part)]


def _misfit(space: SearchSpace, uses: list[_Use]) -> tuple[int, int]:
    """How badly a division fits: a row has one width, and then as little as possible lies outside."""
    widths = {(use.name, use.value) for use in uses if use.name.endswith(".c")}
    return len(widths), len(list(_judge(space, uses)))


def _judge(space: SearchSpace, uses: list[_Use]) -> Iterator[Outside]:
    """What lies outside: values that an entry does not have, and different ones where it stands for one."""
    used: dict[tuple[str, str | int], dict[int, None]] = {}
    for use in uses:
        # A fixed value is an entry of its own everywhere; a coordinate is one, however many rows share it.
        key = (use.name, use.entry) if isinstance(use.entry, int) else ("", use.entry)
        used.setdefault(key, {})[use.value] = None
    for (name, entry), values in used.items():
        label, text = name or str(entry), "/".join(map(str, values))
        allowed, nominal = _values(space, entry), _values(space, entry, nominal=True)
        if len(values) > 1:
            yield Outside(label, text, f"one value of {_span(space, entry)}")
            continue
        (value,) = values
        if value not in allowed:
            yield Outside(label, text, _span(space, entry))
        elif value not in nominal:
            yield Outside(label, text, _span(space, entry), reached_from=nominal[allowed.index(value)])


def _coordinate(space: SearchSpace, entry: str | int) -> Coordinate | None:
    return next((c for c in space.coordinates if c.name == entry), None)


def _values(space: SearchSpace, entry: str | int, *, nominal: bool = False) -> tuple[int, ...]:
    coordinate = _coordinate(space, entry)
    if coordinate is None:
        return (entry,)  # type: ignore[return-value]  # a fixed number, no name
    return coordinate.nominal if nominal else coordinate.values


def _span(space: SearchSpace, entry: str | int) -> str:
    """The values of an entry in the grammar of a space's file."""
    coordinate = _coordinate(space, entry)
    if coordinate is None:
        return str(entry)
    values = coordinate.nominal
    if not coordinate.ordered or len(values) == 1:
        return str(list(values))
    step = values[1] - values[0]
    return f"({values[0]}, {values[-1]}{f', {step}' if step > 1 else ''})"
