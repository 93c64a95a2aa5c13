"""Latency of architectures from a look-up table of measured parts: a g_i(A) of equation (1) without a closed form.

A part is what an architecture consists of: stem, inverted residual, pooling head or classifier, with everything that its
time depends on. The latency of an architecture is the sum of the median times of its parts. The table of another device also
has the factor by which whole networks differ from such sums there (`latency_kit/`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.complexity import conv_side
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.schema import STRICT, load_yaml, read
from fbnetv3.search.space.network_space import NetworkSpace, as_networks
from fbnetv3.search.space.space import Entry, Floats, IntMatrix, IntVector, SearchSpace

SCHEMA = 1
KINDS = ("stem", "ir", "pool", "classifier")
SIZES = (4, 2**14, 2**14, 16, 64, 8, 2, 2**11)  # more than the largest value of every field of a part


class Part(NamedTuple):
    """A part of a network. Fields are ints, or integer arrays of many architectures at once."""

    kind: Any  # position in KINDS
    cin: Any
    c: Any
    k: Any
    e: Any
    s: Any
    se: Any
    side: Any  # of the input

    def code(self) -> Any:
        """Return a number that no other part has: the fields as digits, each with room for its largest value."""
        total = np.int64(0)
        for value, size in zip(self, SIZES, strict=True):
            total = total * size + value
        return total


def parts(space: NetworkSpace, get: Callable[[Entry], Any]) -> Iterator[tuple[Part, Any]]:
    """Yield the parts of architectures and how often each architecture has them.

    Args:
        get: gives the value of an entry of the space, for one architecture or for many.
    """
    layout = space.layout
    k, c, s = layout.stem
    side, cin = get(layout.resolution), get(c)
    yield Part(0, space.in_chans, cin, k, 0, s, 0, side), 1
    side = conv_side(side, k, s, k // 2)
    for row in layout.rows:
        width, n, se = get(row.c), get(row.n), int(row.se)
        yield Part(1, cin, width, get(row.k[0]), get(row.e[0]), row.s, se, side), 1
        # Every odd kernel with padding k // 2 gives the same output side as a 1x1 convolution.
        side = conv_side(side, 1, row.s, 0)
        yield Part(1, width, width, get(row.k[1]), get(row.e[1]), 1, se, side), n - 1
        cin = width
    e, c = layout.head
    yield Part(2, cin, c, 0, e, 0, 0, side), 1
    yield Part(3, c, space.num_classes, 0, 0, 0, 0, 0), 1


def covering(space: NetworkSpace) -> IntMatrix:
    """Return index rows that together have every part of the space.

    They combine all values of what each row of blocks depends on, and leave the other coordinates alone.
    """
    layout, names = space.layout, [c.name for c in space.coordinates]
    # With the greatest depth everywhere, every row has further blocks next to its first one.
    deepest = [names.index(row.n) for row in layout.rows if isinstance(row.n, str)]
    base = np.zeros(len(names), np.int64)
    base[deepest] = space.sizes[deepest] - 1
    found, before = [], layout.stem[1]
    for row in layout.rows:
        entries = (layout.resolution, before, row.c, *row.k, *row.e)
        free = sorted({names.index(entry) for entry in entries if isinstance(entry, str)})
        grid = np.indices(space.sizes[free].tolist()).reshape(len(free), -1).T
        rows = np.repeat(base[None], len(grid), axis=0)
        rows[:, free] = grid
        found.append(rows)
        before = row.c
    return np.unique(space.canonical(np.concatenate(found)), axis=0)


def distinct_parts(space: NetworkSpace, index: IntMatrix) -> list[Part]:
    """Return the different parts of the architectures of index rows, in order."""
    found: set[tuple[int, ...]] = set()
    for part, n in _parts_of_rows(space, index):
        # `index[:, 0]` gives the broadcast arrays their length where all fields are plain numbers.
        table = np.stack(np.broadcast_arrays(*part, n, index[:, 0])[:-1], axis=1)
        found |= {tuple(row[:-1]) for row in np.unique(table[table[:, -1] > 0], axis=0).tolist()}
    return [Part(*row) for row in sorted(found)]


def parts_of_row(space: NetworkSpace, row: IntVector) -> list[tuple[Part, int]]:
    """Return the parts of the architecture of one index row, and how often it has each."""
    return [
        (Part(*(int(np.ravel(field)[0]) for field in part)), int(np.ravel(n)[0]))
        for part, n in _parts_of_rows(space, row[None])
    ]


@dataclass(frozen=True, config=STRICT)
class Calibration:
    """How whole networks differ from the sums over their parts on a device.

    Attributes:
        factor: the time of a network divided by its sum.
        networks: how many were measured.
        error: mean error of the calibrated sums, as a share of the measured time.
        rank_correlation: Spearman's, of sums and measured times. None if it is not defined.
    """

    factor: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    networks: Annotated[int, Field(ge=1)]
    error: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    rank_correlation: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None


@plain_dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of parts for a batch, and the machine, batch size and precision with which they were measured.

    Latencies are multiplied by the factor of the calibration. Without one they are sums.
    """

    space: str
    machine: dict[str, str]
    ms: dict[Part, float]
    calibration: Calibration | None = None

    @cached_property
    def _sorted(self) -> tuple[IntVector, Floats]:
        codes = np.array([part.code() for part in self.ms], np.int64)
        order = np.argsort(codes)
        return codes[order], np.array(list(self.ms.values()))[order]

    def latency(self, space: NetworkSpace, index: IntMatrix) -> Floats:
        """Return the latency of index rows [n, d] in milliseconds [n].

        Raises:
            InputError: the table lacks a part.
        """
        codes, times = self._sorted
        total = np.zeros(len(index))
        for part, n in _parts_of_rows(space, index):
            wanted, count = np.broadcast_arrays(part.code(), n, index[:, 0])[:2]
            position = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            missing = (codes[position] != wanted) & (count > 0)
            if missing.any():
                row = [int(np.broadcast_to(field, len(index))[missing.argmax()]) for field in part]
                raise InputError(
                    f"the latency table of space {self.space} lacks {describe(Part(*row))}; measure it with "
                    "`fbnetv3 search latency-table`, or on another device with a kit of all parts"
                )
            total += np.where(count > 0, count * times[position], 0.0)
        return total if self.calibration is None else total * self.calibration.factor


@dataclass(frozen=True, config=STRICT)
class LatencyLimit:
    """A latency constraint in a configuration: the path of a latency table, and the largest latency in milliseconds."""

    table: str
    max: Annotated[float, Field(gt=0.0)]

    def load(self, space: SearchSpace) -> LatencyConstraint:
        """Read the table.

        Raises:
            InputError: no such table, or a space without networks.
        """
        return LatencyConstraint(as_networks(space), load_table(self.table), self.max)


@plain_dataclass(frozen=True)
class LatencyConstraint:
    """A limit on the latency of index rows, as `ConstraintSet` takes it."""

    space: NetworkSpace
    table: LatencyTable
    max: float

    def values(self, index: IntMatrix) -> Floats:
        """Return the latency of index rows in milliseconds."""
        return self.table.latency(self.space, index)


def save_table(table: LatencyTable, path: str | Path) -> None:
    """Write a table as JSON, atomically, one line for each part."""
    head = {"schema": SCHEMA, "space": table.space, "machine": table.machine, "fields": [*Part._fields, "ms"]}
    if table.calibration is not None:
        head["calibration"] = asdict(table.calibration)
    rows = ",\n".join(json.dumps([*to_row(part), ms]) for part, ms in sorted(table.ms.items()))
    write_atomically(path, json.dumps(head)[:-1] + ', "pieces": [\n' + rows + "\n]}\n")


def load_table(path: str | Path) -> LatencyTable:
    """Read the table that `save_table` wrote.

    Raises:
        InputError: no such file, another kind of file, or a table of another schema.
    """
    data = load_yaml(Path(path), "latency table")  # JSON is YAML
    wrong = InputError(f"{path} is no latency table, or is damaged; make one with `fbnetv3 search latency-table`")
    if data.get("schema") != SCHEMA or not isinstance(data.get("pieces"), list) or not data["pieces"]:
        raise wrong
    try:
        ms = {from_row(row[:-1]): float(row[-1]) for row in data["pieces"]}
        table = LatencyTable(str(data["space"]), dict(data["machine"]), ms)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        raise wrong from None
    if not all(0 <= time < math.inf for time in ms.values()):
        raise wrong
    if data.get("calibration") is None:  # measured here, or by an earlier version
        return table
    return replace(table, calibration=read(Calibration, data["calibration"], f"{path}: calibration"))


def to_row(part: Part) -> list[Any]:
    """Return a part as a row of a file: the name of its kind, and its other fields."""
    return [KINDS[part.kind], *part[1:]]


def from_row(row: Sequence[Any]) -> Part:
    """Return the part of a row of a file.

    Raises:
        TypeError, ValueError, IndexError, OverflowError: the row is no part.
    """
    part = Part(KINDS.index(row[0]), *map(int, row[1:]))
    if not all(0 <= value < size for value, size in zip(part, SIZES, strict=True)):
        raise ValueError(f"{row} is out of range")  # it would have the number of another part
    return part


def describe(part: Part) -> str:
    """Return a part in words, for messages."""
    return " ".join([KINDS[part.kind], *(f"{n} {v}" for n, v in zip(part._fields[1:], part[1:], strict=True))])


def _parts_of_rows(space: NetworkSpace, index: IntMatrix) -> Iterator[tuple[Part, Any]]:
    columns = space.columns(index)
    return parts(space, lambda entry: columns[entry] if isinstance(entry, str) else entry)
