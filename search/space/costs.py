"""FLOPs, parameters and further statistics of whole matrices of index rows: exact integers in closed form (section 3.2).

The cost of a part of a network (the first block of a row, its further blocks, the stem, the head) depends on few
coordinates. It is computed once for every combination of their values. The cost of an index row is then a sum of
numbers that are looked up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fbnetv3.complexity import Cost, classifier, conv_norm, conv_side, inverted_residual, pool_head, round_width
from fbnetv3.errors import InputError
from fbnetv3.search.space.layout import Layout
from fbnetv3.search.space.space import Coordinate, Entry, IntMatrix, IntVector, SearchSpace

CHUNK = 2**12  # rows at a time: what is touched stays in the processor's cache
MAX_ENTRIES = 2**22  # of one table; combinations are numbered in float32, which is exact up to 2**24
Get = Callable[[Entry], Any]


class Totals(NamedTuple):
    """The statistics that are sums over the parts of a network."""

    flops: Any
    params: Any
    activations: Any
    depth: Any


@dataclass(frozen=True, eq=False)
class PartTable:
    """Costs of one part of all networks, one row for each combination of the coordinates that it depends on.

    Attributes:
        part: stem, stages.0, stages.1, ..., head.
        stride: [d]; `index @ stride` is the number of an index row's combination.
        rows: [combinations, fields of Cost].
        totals: [combinations, fields of Totals].
    """

    part: str
    stride: npt.NDArray[np.float32]
    rows: IntMatrix
    totals: IntMatrix


class CostTables:
    """The look-up tables of all parts of a space's networks. Make them with `cost_tables`, which keeps them."""

    def __init__(self, tables: Sequence[PartTable]) -> None:
        self.tables = tuple(tables)
        self.strides = np.stack([table.stride for table in tables])
        self._figures: dict[tuple[str, str], list[IntVector]] = {}

    def cost(self, index: IntMatrix) -> Cost:
        """Return the costs of index rows [n, d]; the fields are integer arrays [n]."""
        out = np.zeros((len(index), len(Cost._fields)), np.int64)
        for rows, numbers in self._chunks(index):
            for table, number in zip(self.tables, numbers, strict=True):
                out[rows] += table.rows.take(number, axis=0)
        return Cost(*out.T)

    def figure(self, metric: str, convention: str, index: IntMatrix) -> IntVector:
        """Return `flops` or `params` of index rows [n, d] in a convention."""
        columns = self._columns(metric, convention)
        out = np.zeros(len(index), np.int64)
        for rows, numbers in self._chunks(index):
            for column, number in zip(columns, numbers, strict=True):
                out[rows] += column.take(number)
        return out

    def statistics(self, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        """Return the names of k statistics, and their values for index rows [n, d] as integers [n, k].

        The statistics are `flops` and `params` in the published convention, `activations` (elements that convolutions and
        linear layers put out), `depth` (blocks), and `PART.flops`, `PART.params` of the stem, of every stage (`stages.0`, ...:
        the rows at one resolution, as in an `Arch`) and of the head (here with the classifier).
        """
        parts = tuple(dict.fromkeys(table.part for table in self.tables))
        names = ("flops", "params", "activations", "depth", *(f"{p}.{m}" for p in parts for m in ("flops", "params")))
        out = np.empty((len(index), len(names)), np.int64)
        width = len(Totals._fields)
        for rows, numbers in self._chunks(index):
            sums = np.zeros((len(parts), rows.stop - rows.start, width), np.int64)
            for table, number in zip(self.tables, numbers, strict=True):
                sums[parts.index(table.part)] += table.totals.take(number, axis=0)
            out[rows, :width] = sums.sum(axis=0)
            # FLOPs and parameters of the parts, which are the first two totals, side by side.
            out[rows, width:] = sums[..., :2].transpose(1, 0, 2).reshape(-1, 2 * len(parts))
        return names, out

    def _chunks(self, index: IntMatrix) -> Iterator[tuple[slice, IntMatrix]]:
        """Yield slices of the rows, each with the numbers of its combinations [tables, rows]."""
        for start in range(0, len(index), CHUNK):
            rows = slice(start, min(start + CHUNK, len(index)))
            # In float32, because matrix products of integers do not use BLAS.
            yield rows, (self.strides @ index[rows].astype(np.float32).T).astype(np.int64)

    def _columns(self, metric: str, convention: str) -> list[IntVector]:
        """Return, for every table, FLOPs or parameters in a convention, which are sums of the fields of `Cost`."""
        key = (metric, convention)
        if key not in self._figures:
            costs = [Cost(*table.rows.T) for table in self.tables]
            self._figures[key] = [c.flops(convention) if metric == "flops" else c.params(convention) for c in costs]
        return self._figures[key]


@functools.lru_cache(maxsize=16)
def cost_tables(
    space: str, layout: Layout, coordinates: tuple[Coordinate, ...], in_chans: int, num_classes: int
) -> CostTables:
    """Compute the tables of a space's networks; equal spaces share them.

    Raises:
        InputError: one block depends on more than `MAX_ENTRIES` combinations of values; the message names `space`.
    """
    parts = _parts(layout, in_chans, num_classes)
    return CostTables([_tabulate(space, coordinates, part) for part in parts])


class _Part(NamedTuple):
    """A part of all networks.

    `entries` are what it depends on. `counts` gives, from their values, the part's cost, the outputs of its convolutions
    without norm (the outputs of those with norm are `Cost.norm`), and its number of blocks.
    """

    name: str
    entries: tuple[Entry, ...]
    counts: Callable[[Get], tuple[Cost, Any, Any]]


def _tabulate(space: str, coordinates: Sequence[Coordinate], part: _Part) -> PartTable:
    names = [c.name for c in coordinates]
    free = sorted({names.index(entry) for entry in part.entries if isinstance(entry, str)})
    sizes = [len(coordinates[j].values) for j in free]
    entries = math.prod(sizes)
    if entries > MAX_ENTRIES:
        raise InputError(
            f"space {space}: {' x '.join(names[j] for j in free)} are {entries:,} combinations for one block; "
            f"at most {MAX_ENTRIES:,}: give fewer values"
        )
    grid = np.indices(sizes).reshape(len(free), entries)
    values = {names[j]: coordinates[j].array[row] for j, row in zip(free, grid, strict=True)}
    counted, outputs, depth = part.counts(lambda entry: values[entry] if isinstance(entry, str) else entry)
    stride = np.zeros(len(names), np.float32)
    # `grid` counts like digits: the last coordinate fastest.
    stride[free] = entries // np.cumprod(sizes, dtype=np.int64)
    totals = Totals(counted.flops(), counted.params(), counted.norm + outputs, depth)
    return PartTable(part.name, stride, _matrix(counted, entries), _matrix(totals, entries))


def _matrix(columns: Sequence[Any], entries: int) -> IntMatrix:
    """Stack columns, some of which may be plain numbers, to a matrix [entries, columns]."""
    return np.stack([np.broadcast_to(np.asarray(column, np.int64), (entries,)) for column in columns], axis=1)


def _parts(layout: Layout, in_chans: int, num_classes: int) -> Iterator[_Part]:
    """Yield the parts of the networks in order."""
    resolution, before = layout.resolution, layout.stem[1]
    yield _Part("stem", (resolution, before), functools.partial(_stem, layout, in_chans))
    for stage, rows in enumerate(layout.stages()):
        for i, row in rows:
            entries = (resolution, before, row.c, row.k[0], row.e[0])
            yield _Part(f"stages.{stage}", entries, functools.partial(_first_block, layout, i, before))
            entries = (resolution, row.c, row.k[1], row.e[1], row.n)
            yield _Part(f"stages.{stage}", entries, functools.partial(_further_blocks, layout, i))
            before = row.c
    yield _Part("head", (resolution, before), functools.partial(_head, layout, num_classes, before))


def _stem(layout: Layout, in_chans: int, get: Get) -> tuple[Cost, Any, Any]:
    side = _side(layout, 0, get)
    return conv_norm(in_chans, get(layout.stem[1]), layout.stem[0], side * side, bias=True), 0, 0


def _first_block(layout: Layout, i: int, before: Entry, get: Get) -> tuple[Cost, Any, Any]:
    row, cin = layout.rows[i], get(before)
    side = _side(layout, i, get)
    part, _ = inverted_residual(cin, get(row.c), get(row.k[0]), get(row.e[0]), row.s, side, se=row.se)
    return part, _squeeze_outputs(row.se, cin, get(row.e[0])), 1


def _further_blocks(layout: Layout, i: int, get: Get) -> tuple[Cost, Any, Any]:
    row, c, n = layout.rows[i], get(layout.rows[i].c), get(layout.rows[i].n) - 1
    part, _ = inverted_residual(c, c, get(row.k[1]), get(row.e[1]), 1, _side(layout, i + 1, get), se=row.se)
    return part.times(n), n * _squeeze_outputs(row.se, c, get(row.e[1])), n


def _head(layout: Layout, num_classes: int, before: Entry, get: Get) -> tuple[Cost, Any, Any]:
    e, c = layout.head
    part = pool_head(get(before), c, e, _side(layout, len(layout.rows), get)) + classifier(c, num_classes)
    return part, c + num_classes, 0


def _side(layout: Layout, i: int, get: Get) -> Any:
    """Return the side of the feature map that enters row `i`.

    It does not depend on the kernels: every odd kernel with padding k // 2 gives the same output side.
    """
    side = get(layout.resolution)
    for s in (layout.stem[2], *(row.s for row in layout.rows[:i])):
        side = conv_side(side, 1, s, 0)
    return side


def _squeeze_outputs(se: bool, cin: Any, e: Any) -> Any:
    """Return the number of elements that the two convolutions of squeeze-and-excitation put out."""
    return round_width(cin, 4) + round_width(cin * e) if se else 0


def statistics(space: SearchSpace, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Return the free statistics of index rows: names of k statistics, and values [n, k]; see `SearchSpace.statistics`."""
    return space.statistics(index)
