"""What a space contains: its sizes, and which values of given networks are outside it (Table 2, section 3.5).

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
from fbnetv3.search.space.layout import Row
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.search.space.space import Coordinate, Entry


@dataclass(frozen=True)
class Outside:
    """A value of a network that the space does not have as written.

    `reached_from` is a width that the space does have and that is built as this one. Where it is None, the network really is
    outside the space.
    """

    coordinate: str
    value: str
    allowed: str
    reached_from: int | None = None


@dataclass(frozen=True)
class NetworkAudit:
    """A network compared with a space.

    Padding is no coordinate of a space, which builds every kernel with padding k // 2: `same_padding_flops` are the network's
    FLOPs with that padding.
    """

    network: str
    outside: tuple[Outside, ...]
    flops: int  # published convention
    same_padding_flops: int

    @property
    def contained(self) -> bool:
        """Whether the space contains the network, apart from padding and with widths as built."""
        return all(entry.reached_from is not None for entry in self.outside)


@dataclass(frozen=True)
class Audit:
    """The sizes of a space, and the networks that were compared with it."""

    space: str
    architectures: int
    resolutions: int
    built: int  # number of architectures after widths are rounded
    recipes: int
    networks: tuple[NetworkAudit, ...]

    @property
    def collapse(self) -> float:
        """Number of architectures as written, divided by the number as built."""
        return self.architectures / self.built

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with `collapse` and `contained`, which are derived from the fields."""
        data = dataclasses.asdict(self) | {"collapse": self.collapse}
        for row, network in zip(data["networks"], self.networks, strict=True):
            row["contained"] = network.contained
        return data


def audit(space: NetworkSpace, networks: Sequence[Arch] = tuple(ARCHS.values())) -> Audit:
    """Return the sizes of a space, and every coordinate of the networks (by default the released A to G) that is outside."""
    resolutions = len(space.resolutions)
    found = tuple(
        NetworkAudit(arch.name, tuple(outside(space, arch)), cost(arch).flops(), cost(same_padding(arch)).flops())
        for arch in networks
    )
    return Audit(space.name, space.arch_size, resolutions, space.built_size, space.recipe_size, found)


def outside(space: NetworkSpace, arch: Arch) -> Iterator[Outside]:
    """Yield everything in a network that the space does not have, apart from padding.

    A stage's blocks are divided among the space's rows of that stage in the way that fits best.
    """
    layout = space.layout
    stages = layout.stages()
    shape = f"stem {arch.stem.k} x {arch.stem.k} / {arch.stem.s}, strides {[stage[0].s for stage in arch.stages]}"
    k, _, s = layout.stem
    allowed = f"stem {k} x {k} / {s}, strides {[stage[0][1].s for stage in stages]}"
    if shape != allowed:
        yield Outside("stages", shape, allowed)
        return
    for kind in sorted({_kind(row) for row in arch.rows} - {_kind(Block("ir", 8))}):
        yield Outside("block", kind, _kind(Block("ir", 8)))
    uses = [_Use("resolution", layout.resolution, arch.resolution), _Use("stem.c", layout.stem[1], arch.stem.c)]
    for rows, blocks in zip(stages, arch.stages, strict=True):
        single = [row for row in blocks for _ in range(row.n)]
        divided = list(_divisions(single, len(rows)))
        if not divided:
            yield Outside(f"row{rows[0][0]}", f"{len(single)} blocks in the stage", f"{len(rows)} rows")
            continue
        uses += min((_divided(rows, parts) for parts in divided), key=functools.partial(_misfit, space))
    if arch.head is None:
        yield Outside("head", "none", f"e {layout.head[0]}, c {layout.head[1]}")
    else:
        uses += [_Use("head.e", layout.head[0], arch.head.e), _Use("head.c", layout.head[1], arch.head.c)]
    yield from _judge(space, uses)


@dataclass(frozen=True)
class _Use:
    """A place where the space has `entry` and the network has `value`."""

    name: str
    entry: Entry
    value: int


def _kind(row: Block) -> str:
    """Describe what all blocks of a space have in common."""
    return f"{row.block}, {row.act}, squeeze from {row.se_from}{'' if row.dw_norm_act else ', bare depthwise'}"


def _divisions(blocks: list[Block], parts: int) -> Iterator[list[list[Block]]]:
    """Yield all ways to cut a list into `parts` parts, none of them empty."""
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


def _misfit(space: NetworkSpace, uses: list[_Use]) -> tuple[int, int]:
    """Return how badly a division fits: first the number of different widths in its rows, then the number of values outside."""
    widths = {(use.name, use.value) for use in uses if use.name.endswith(".c")}
    return len(widths), len(list(_judge(space, uses)))


def _judge(space: NetworkSpace, uses: list[_Use]) -> Iterator[Outside]:
    """Yield what is outside: values that an entry does not have, and several values where an entry has one value at a time."""
    used: dict[tuple[str, Entry], dict[int, None]] = {}
    for use in uses:
        # Every fixed value is an entry of its own. A coordinate is one entry, however many rows share it.
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


def _coordinate(space: NetworkSpace, name: str) -> Coordinate:
    return next(c for c in space.coordinates if c.name == name)


def _values(space: NetworkSpace, entry: Entry, *, nominal: bool = False) -> tuple[int, ...]:
    if isinstance(entry, int):
        return (entry,)
    coordinate = _coordinate(space, entry)
    return coordinate.nominal if nominal else coordinate.values


def _span(space: NetworkSpace, entry: Entry) -> str:
    """Return the values of an entry in the grammar of a space's file."""
    if isinstance(entry, int):
        return str(entry)
    coordinate = _coordinate(space, entry)
    values = coordinate.nominal
    if not coordinate.ordered or len(values) == 1:
        return str(list(values))
    step = values[1] - values[0]
    return f"({values[0]}, {values[-1]}{f', {step}' if step > 1 else ''})"
