"""Free labels: FLOPs, parameters and more of whole index matrices, in closed form, exact integers (section 3.2).

The cost of a part of a network - the first block of a row, its other blocks, stem, head - depends on few coordinates. It
is computed once for every combination of their values; the cost of an index row is then a sum of looked up numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.complexity import Cost, classifier, conv_norm, conv_side, inverted_residual, pool_head, round_width
from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT
from fbnetv3.search.space.space import IntMatrix, IntVector, SearchSpace
from fbnetv3.search.space.table import TableSpace

CHUNK = 2**12  # rows at a time: what is touched stays in the cache
MAX_ENTRIES = 2**22  # of one table; combinations are counted in float32, exact up to 2**24
Entry = str | int
Get = Callable[[Entry], Any]


def cost(space: SearchSpace, index: IntMatrix) -> Cost:
    """Cost of every index row [n, d]: fields are integer arrays [n], equal to `fbnetv3.complexity.cost` of each `Arch`."""
    if isinstance(space, TableSpace):
        return Cost(conv=_whole(space, "flops", index), weights=_whole(space, "params", index))
    tables = _tables(space)
    out = np.zeros((len(index), len(Cost._fields)), np.int64)
    for rows, codes in _chunks(space, index):
        for table, code in zip(tables, codes, strict=True):
            out[rows] += table.rows.take(code, axis=0)
    return Cost(*out.T)


def statistics(space: SearchSpace, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Rich labels of index rows [n, d]: names of k columns, and the counts [n, k].

    `flops` and `params` in the published convention, `activations` (elements that convolutions and linear layers put
    out), `depth` (blocks), and `PART.flops`, `PART.params` of stem, every stage (`stages.0`, ...: the rows at one
    resolution, as in an `Arch`) and head (here with the classifier). Of a table what it has, in its units.
    """
    if isinstance(space, TableSpace):
        return tuple(space.labels), np.stack([space.label(name, index) for name in space.labels], axis=1)
    tables = _tables(space)
    parts = tuple(dict.fromkeys(table.part for table in tables))
    names = ("flops", "params", "activations", "depth", *(f"{p}.{m}" for p in parts for m in ("flops", "params")))
    out = np.empty((len(index), len(names)), np.int64)
    width = len(Totals._fields)
    for rows, codes in _chunks(space, index):
        sums = np.zeros((len(parts), rows.stop - rows.start, width), np.int64)
        for table, code in zip(tables, codes, strict=True):
            sums[parts.index(table.part)] += table.totals.take(code, axis=0)
        out[rows, :width] = sums.sum(axis=0)
        out[rows, width:] = sums[..., :2].transpose(1, 0, 2).reshape(-1, 2 * len(parts))
    return names, out


@dataclass(frozen=True, config=STRICT)
class Constraint:
    """A resource constraint g(A) <= C of equation (1), with a lower end to keep a pool inside a window."""

    metric: Literal["flops", "params"]  # one multiply-add = 1 FLOP
    max: Annotated[float, Field(gt=0.0)]
    min: Annotated[float, Field(ge=0.0)] = 0.0
    convention: Literal["published", "fvcore"] = "published"

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"{self.metric} from {self.min:g} to {self.max:g} is no window; min must not exceed max")

    def value(self, cost: Cost) -> Any:
        """The constrained figure of one or many costs."""
        return cost.flops(self.convention) if self.metric == "flops" else cost.params(self.convention)

    def values(self, space: SearchSpace, index: IntMatrix) -> IntVector:
        """The constrained figure of every index row [n, d], without the rest of its cost."""
        if isinstance(space, TableSpace):
            return _whole(space, self.metric, index)
        tables = _figures(space, self.metric, self.convention)
        out = np.zeros(len(index), np.int64)
        for rows, codes in _chunks(space, index):
            for table, code in zip(tables, codes, strict=True):
                out[rows] += table.take(code)
        return out

    def holds(self, value: Any) -> npt.NDArray[np.bool_]:
        """Which of many figures lie inside."""
        return np.asarray((value >= self.min) & (value <= self.max))

    def allows(self, cost: Cost) -> npt.NDArray[np.bool_]:
        """Which of many costs lie inside."""
        return self.holds(self.value(cost))


def _whole(space: TableSpace, name: str, index: IntMatrix) -> IntVector:
    return space.label(name, index).astype(np.int64)


class Totals(NamedTuple):
    """What `statistics` sums."""

    flops: Any
    params: Any
    activations: Any
    depth: Any


@plain_dataclass(frozen=True, eq=False)
class _Table:
    """Costs of a part by the combination of the coordinates that it depends on; `code` of a row is its `index @ stride`."""

    part: str
    stride: npt.NDArray[np.float32]  # [d]
    rows: IntMatrix  # [combinations, fields of Cost]
    totals: IntMatrix  # [combinations, fields of Totals]


class _Part(NamedTuple):
    """A part of all networks: its entries in the space, and what gives from their values its cost, the outputs of its
    convolutions without norm (those with norm are `Cost.norm`), and its number of blocks."""

    name: str
    entries: tuple[Entry, ...]
    counts: Callable[[Get], tuple[Cost, Any, Any]]


def _chunks(space: SearchSpace, index: IntMatrix) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Slices of the rows, with the codes [tables, rows] of each."""
    strides = np.stack([table.stride for table in _tables(space)])
    for start in range(0, len(index), CHUNK):
        rows = slice(start, min(start + CHUNK, len(index)))
        yield rows, (strides @ index[rows].astype(np.float32).T).astype(np.int64)


@functools.lru_cache(maxsize=16)
def _tables(space: SearchSpace) -> tuple[_Table, ...]:
    return tuple(_tabulate(space, part) for part in _parts(space))


@functools.lru_cache(maxsize=32)
def _figures(space: SearchSpace, metric: str, convention: str) -> tuple[IntVector, ...]:
    """A column of every table: FLOPs or parameters in a convention, which are sums of fields."""
    costs = [Cost(*table.rows.T) for table in _tables(space)]
    return tuple(c.flops(convention) if metric == "flops" else c.params(convention) for c in costs)


def _tabulate(space: SearchSpace, part: _Part) -> _Table:
    names = [c.name for c in space.coordinates]
    free = sorted({names.index(entry) for entry in part.entries if isinstance(entry, str)})
    sizes = space.sizes[free].tolist()
    entries = math.prod(sizes)
    if entries > MAX_ENTRIES:
        raise InputError(
            f"space {space.name}: {' x '.join(names[j] for j in free)} are {entries:,} combinations for one block; "
            f"at most {MAX_ENTRIES:,}: give fewer values"
        )
    grid = np.indices(sizes).reshape(len(free), entries)
    values = {names[j]: space.coordinates[j].array[row] for j, row in zip(free, grid, strict=True)}
    counted, outputs, depth = part.counts(lambda entry: values[entry] if isinstance(entry, str) else entry)
    stride = np.zeros(len(names), np.float32)
    stride[free] = entries // np.cumprod(sizes, dtype=np.int64)
    totals = Totals(counted.flops(), counted.params(), counted.norm + outputs, depth)
    return _Table(part.name, stride, _matrix(counted, entries), _matrix(totals, entries))


def _matrix(columns: Sequence[Any], entries: int) -> IntMatrix:
    return np.stack([np.broadcast_to(np.asarray(column, np.int64), (entries,)) for column in columns], axis=1)


def _parts(space: SearchSpace) -> Iterator[_Part]:
    """The parts of the networks of a space, in order."""
    yield _Part("stem", (space.resolution, space.stem[1]), functools.partial(_stem, space))
    before, stage = space.stem[1], -1
    for i, row in enumerate(space.rows):
        stage += row.s > 1 or i == 0
        entries = (space.resolution, before, row.c, row.k[0], row.e[0])
        yield _Part(f"stages.{stage}", entries, functools.partial(_first_block, space, i, before))
        entries = (space.resolution, row.c, row.k[1], row.e[1], row.n)
        yield _Part(f"stages.{stage}", entries, functools.partial(_other_blocks, space, i))
        before = row.c
    yield _Part("head", (space.resolution, before), functools.partial(_head, space, before))


def _stem(space: SearchSpace, get: Get) -> tuple[Cost, Any, Any]:
    side = _side(space, 0, get)
    return conv_norm(space.in_chans, get(space.stem[1]), space.stem[0], side * side, bias=True), 0, 0


def _first_block(space: SearchSpace, i: int, before: Entry, get: Get) -> tuple[Cost, Any, Any]:
    row, cin = space.rows[i], get(before)
    part, _ = inverted_residual(cin, get(row.c), get(row.k[0]), get(row.e[0]), row.s, _side(space, i, get), se=row.se)
    return part, _squeeze_outputs(row.se, cin, get(row.e[0])), 1


def _other_blocks(space: SearchSpace, i: int, get: Get) -> tuple[Cost, Any, Any]:
    row, c, n = space.rows[i], get(space.rows[i].c), get(space.rows[i].n) - 1
    part, _ = inverted_residual(c, c, get(row.k[1]), get(row.e[1]), 1, _side(space, i + 1, get), se=row.se)
    return part.times(n), n * _squeeze_outputs(row.se, c, get(row.e[1])), n


def _head(space: SearchSpace, before: Entry, get: Get) -> tuple[Cost, Any, Any]:
    e, c = space.head
    part = pool_head(get(before), c, e, _side(space, len(space.rows), get)) + classifier(c, space.num_classes)
    return part, c + space.num_classes, 0


def _side(space: SearchSpace, i: int, get: Get) -> Any:
    """Side of the map that enters row `i`: any odd kernel with padding k // 2 leaves the same."""
    side = get(space.resolution)
    for s in (space.stem[2], *(row.s for row in space.rows[:i])):
        side = conv_side(side, 1, s, 0)
    return side


def _squeeze_outputs(se: bool, cin: Any, e: Any) -> Any:
    """Elements that the two convolutions of squeeze-and-excitation put out."""
    return round_width(cin, 4) + round_width(cin * e) if se else 0
