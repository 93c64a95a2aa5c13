"""Latency of architectures by a look-up table of measured blocks: the g_i(A) of equation (1) that has no closed form.

A piece is what an architecture is made of: stem, inverted residual, pooling head or classifier, with all that its time
depends on. The latency of an architecture is the sum over its pieces of the medians in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.complexity import conv_side
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.schema import STRICT, load_yaml
from fbnetv3.search.space.space import IntMatrix, SearchSpace

SCHEMA = 1
KINDS = ("stem", "ir", "pool", "classifier")
Floats = npt.NDArray[np.float64]


class Piece(NamedTuple):
    """A part of a network; fields are ints, or integer arrays of many architectures at once. `side` is of its input."""

    kind: Any  # place in KINDS
    cin: Any
    c: Any
    k: Any
    e: Any
    s: Any
    se: Any
    side: Any

    def code(self) -> Any:
        """One number for each different piece."""
        total = np.int64(0)
        for value, size in zip(self, (4, 2**14, 2**14, 16, 64, 8, 2, 2**11), strict=True):
            total = total * size + value
        return total


def pieces(space: SearchSpace, get: Callable[[str | int], Any]) -> Iterator[tuple[Piece, Any]]:
    """The pieces of architectures and how often each has them; `get` gives the value of an entry of the space."""
    k, c, s = space.stem
    side, cin = get(space.resolution), get(c)
    yield Piece(0, space.in_chans, cin, k, 0, s, 0, side), 1
    side = conv_side(side, k, s, k // 2)
    for row in space.rows:
        width, n, se = get(row.c), get(row.n), int(row.se)
        yield Piece(1, cin, width, get(row.k[0]), get(row.e[0]), row.s, se, side), 1
        side = conv_side(side, 1, row.s, 0)  # of any odd kernel with padding k // 2
        yield Piece(1, width, width, get(row.k[1]), get(row.e[1]), 1, se, side), n - 1
        cin = width
    yield Piece(2, cin, space.head[1], 0, space.head[0], 0, 0, side), 1
    yield Piece(3, space.head[1], space.num_classes, 0, 0, 0, 0, 0), 1


def covering(space: SearchSpace) -> IntMatrix:
    """Index rows that hold, together, every piece of the space: all values of what each row of blocks depends on."""
    names = [c.name for c in space.coordinates]
    deepest = [names.index(row.n) for row in space.rows if isinstance(row.n, str)]
    base = np.zeros(len(names), np.int64)
    base[deepest] = space.sizes[deepest] - 1
    found, before = [], space.stem[1]
    for row in space.rows:
        entries = (space.resolution, before, row.c, *row.k, *row.e)
        free = sorted({names.index(entry) for entry in entries if isinstance(entry, str)})
        grid = np.indices(space.sizes[free].tolist()).reshape(len(free), -1).T
        rows = np.repeat(base[None], len(grid), axis=0)
        rows[:, free] = grid
        found.append(rows)
        before = row.c
    return np.unique(space.canonical(np.concatenate(found)), axis=0)


def distinct_pieces(space: SearchSpace, index: IntMatrix) -> list[Piece]:
    """The different pieces of the architectures of index rows, ordered."""
    found: set[tuple[int, ...]] = set()
    for piece, n in _columns(space, index):
        whole = np.stack(np.broadcast_arrays(*piece, n, index[:, 0])[:-1], axis=1)
        found |= {tuple(row[:-1]) for row in np.unique(whole[whole[:, -1] > 0], axis=0).tolist()}
    return [Piece(*row) for row in sorted(found)]


@plain_dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of pieces, batch 1, and where they were measured."""

    space: str
    machine: dict[str, str]
    ms: dict[Piece, float]

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.int64], Floats]:
        codes = np.array([piece.code() for piece in self.ms], np.int64)
        order = np.argsort(codes)
        return codes[order], np.array(list(self.ms.values()))[order]

    def latency(self, space: SearchSpace, index: IntMatrix) -> Floats:
        """Milliseconds [n] of index rows [n, d].

        Raises:
            InputError: a piece that the table does not hold.
        """
        codes, times = self._sorted
        total = np.zeros(len(index))
        for piece, n in _columns(space, index):
            wanted, count = np.broadcast_arrays(piece.code(), n, index[:, 0])[:2]
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            missing = (codes[place] != wanted) & (count > 0)
            if missing.any():
                row = [int(np.broadcast_to(field, len(index))[missing.argmax()]) for field in piece]
                raise InputError(
                    f"the latency table of space {self.space} holds no {_words(Piece(*row))}; measure it first"
                )
            total += np.where(count > 0, count * times[place], 0.0)
        return total


@dataclass(frozen=True, config=STRICT)
class LatencyLimit:
    """A latency constraint: the path of a table, as `fbnetv3 search latency-table` writes it, and milliseconds."""

    table: str
    max: Annotated[float, Field(gt=0.0)]

    def load(self, space: SearchSpace) -> LatencyBound:
        """The same with its table read, to measure index rows of the space with."""
        return LatencyBound(space, load_table(self.table), self.max)


@plain_dataclass(frozen=True)
class LatencyBound:
    """A limit on the summed latency of index rows, as `Limits` takes it."""

    space: SearchSpace
    table: LatencyTable
    max: float

    def value(self, index: IntMatrix) -> Floats:
        """Milliseconds of every row."""
        return self.table.latency(self.space, index)


def save_table(table: LatencyTable, path: str | Path) -> None:
    """Write a table as JSON, atomically, a piece a line."""
    head = {"schema": SCHEMA, "space": table.space, "machine": table.machine, "fields": [*Piece._fields, "ms"]}
    rows = ",\n".join(json.dumps([KINDS[piece.kind], *piece[1:], ms]) for piece, ms in sorted(table.ms.items()))
    write_atomically(path, json.dumps(head)[:-1] + ', "pieces": [\n' + rows + "\n]}\n")


def load_table(path: str | Path) -> LatencyTable:
    """Read what `save_table` wrote.

    Raises:
        InputError: no such file, no such table, or one of another schema.
    """
    data = load_yaml(Path(path), "latency table")  # JSON is YAML
    wrong = InputError(f"{path} is no latency table, or is damaged; make one with `fbnetv3 search latency-table`")
    if data.get("schema") != SCHEMA or not isinstance(data.get("pieces"), list):
        raise wrong
    try:
        ms = {Piece(KINDS.index(row[0]), *map(int, row[1:-1])): float(row[-1]) for row in data["pieces"]}
        return LatencyTable(str(data["space"]), dict(data["machine"]), ms)
    except (TypeError, ValueError, KeyError, IndexError):
        raise wrong from None


def _columns(space: SearchSpace, index: IntMatrix) -> Iterator[tuple[Piece, Any]]:
    columns = space.columns(index)
    return pieces(space, lambda entry: columns[entry] if isinstance(entry, str) else entry)


def _words(piece: Piece) -> str:
    return KINDS[piece.kind] + "".join(
        f" {name} {value}" for name, value in zip(piece._fields[1:], piece[1:], strict=True)
    )
