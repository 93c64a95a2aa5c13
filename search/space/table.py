"""Tables as search spaces: every pair was trained before, its costs and accuracies are looked up.

`load_space("trainings.csv")` reads a CSV file with a header. A line is one training; lines with equal coordinates are
trainings of one pair, which costs the same in all of them. The columns, in any order:

- `arch.NAME`, `recipe.NAME`: a coordinate of the architecture or of the recipe, such as `arch.row0.k` or `recipe.lr`. A column
  of numbers is a range, which the predictor sees min-max; any other one, such as `k3`, `k5`, is a choice.
- `label.flops`, `label.params`: whole numbers from 1. A table has one convention; that of a constraint is not looked at.
- `label.NAME`: a further statistic for pretraining, any number.
- `acc1`, or `acc1.1`, `acc1.2`, ..: accuracy in percent after the only epoch, or after every one. A training that was
  stopped early leaves the last ones empty; one that diverged all of them: it counts as chance among 1,000 classes.
- `note.NAME`: anything; not read.

`load_space("nas-bench-macro_cifar10.json")` reads the file of https://github.com/xiusu/NAS-Bench-Macro (Apache-2.0).
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError
from fbnetv3.search.execution.images import Outcome
from fbnetv3.search.space.space import Candidate, Coordinate, IntMatrix, IntVector, Row, SearchSpace
from fbnetv3.training.recipe import Recipe

Floats = npt.NDArray[np.float64]
SUFFIXES = (".csv", ".json")
CLASSES = 1000  # of a CSV file, which does not say
_COLUMN = re.compile(r"(arch|recipe|label|note)\.(.+)|acc1(?:\.([1-9]\d*))?")
_COUNTS = ("flops", "params")


@dataclass(frozen=True, eq=False)
class TableSpace(SearchSpace):
    """The pairs of a table, all combinations of the coordinates' values or some of them.

    There are no networks: architectures of candidates are placeholders, whose name says so.
    """

    table: IntMatrix = None  # type: ignore[assignment]  # index rows [n, d], each once
    labels: Mapping[str, Floats] = None  # type: ignore[assignment]  # statistics [n] by name
    acc1: Floats = None  # type: ignore[assignment]  # [n, trainings, epochs], nan where there is none
    trainings: IntVector = None  # type: ignore[assignment]  # of every row, [n]
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def listed(self) -> IntMatrix | None:
        """The table's rows if it has not all combinations of values."""
        return None if len(self.table) == math.prod(self.sizes.tolist()) else self.table

    def holds(self, index: IntMatrix) -> npt.NDArray[np.bool_]:
        """Which index rows the table has."""
        return np.asarray(self._look(index)[1])

    def position(self, index: IntMatrix) -> IntVector:
        """The table's row of every index row.

        Raises:
            InputError: it does not have one.
        """
        place, held = self._look(index)
        if not held.all():
            row = index[np.flatnonzero(~held)[0]].tolist()
            raise InputError(f"table {self.name} has no {self._values(row)}; only its rows can be looked up")
        return place

    def label(self, name: str, index: IntMatrix) -> Floats:
        """A statistic of every index row; 0 where the table has none."""
        place, held = self._look(index)
        return np.where(held, self.labels[name][place], 0.0)

    def accuracy(self, index: IntMatrix) -> Floats:
        """Mean accuracy of every index row over its trainings, each after its last epoch; chance where one diverged."""
        curves = self.acc1[self.position(index)]
        last = np.full(curves.shape[:2], np.nan)
        for epoch in range(curves.shape[2]):
            last = np.where(np.isnan(curves[:, :, epoch]), last, curves[:, :, epoch])
        real = np.arange(curves.shape[1]) < self.trainings[self.position(index)][:, None]
        last = np.where(np.isnan(last), 100.0 / self.num_classes, last)
        return np.asarray(np.mean(last, axis=1, where=real))

    @property
    def base(self) -> Recipe:
        """Stands where a search needs a recipe: as many epochs as the table knows."""
        return Recipe("sgd", 0.1, epochs=self.acc1.shape[2], batch_size=2)

    def candidate(self, index: Sequence[int], base: Recipe, name: str) -> Candidate:
        """The values of a row, with a placeholder for the architecture and the base recipe as it is."""
        return Candidate(
            self.arch(index, f"{name} (a row of table {self.name}: no network)"), base, self._values(index)
        )

    def arch(self, index: Sequence[int], name: str) -> Arch:
        """A placeholder."""
        return super().arch(index, name)

    @cached_property
    def _keys(self) -> tuple[IntVector, IntVector, IntVector]:
        """Factors that make a number of an index row, these numbers of the table in order, and whose they are."""
        factors = np.random.default_rng(0).integers(2**62, size=len(self.coordinates)) | 1
        keys = self.table @ factors
        order = np.argsort(keys)
        assert len(np.unique(keys)) == len(keys), "two rows share a 64-bit number"
        return factors, keys[order], order

    def _look(self, index: IntMatrix) -> tuple[IntVector, npt.NDArray[np.bool_]]:
        """The table's row of every index row, and whether it is that row."""
        factors, keys, order = self._keys
        place = order[np.minimum(np.searchsorted(keys, index @ factors), len(keys) - 1)]
        return place, np.asarray((self.table[place] == index).all(axis=1))


@dataclass(frozen=True, eq=False)
class TableEvaluator:
    """Looks accuracies up: `(candidate, epochs, seed) -> Outcome`; the seed says which of the table's trainings it is."""

    space: TableSpace

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """The curve of the first `epochs`.

        Raises:
            InputError: the table has no such pair, or that training is shorter.
        """
        space = self.space
        [row] = space.position(np.array([space.find(candidate.values)]))
        curve = space.acc1[row, seed % space.trainings[row]]
        known = int((~np.isnan(curve)).sum())
        if known and epochs > known:
            raise InputError(f"table {space.name}: {dict(candidate.values)} has {known} epochs, {epochs} are asked for")
        return Outcome(tuple(curve[:epochs].tolist()), "ok", 0.0) if known else Outcome((), "diverged", 0.0)


def read_table(path: Path) -> TableSpace:
    """Read a table, by its suffix.

    Raises:
        InputError: no such file, or one that breaks the rules; the message names file, line and column.
    """
    return _read_macro(path) if path.suffix == ".json" else _read_csv(path)


def _read_macro(path: Path) -> TableSpace:
    """NAS-Bench-Macro: a digit of 0 to 2 for every one of 8 layers, three trainings of all networks on CIFAR-10."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        index = np.asarray(np.indices((3,) * 8).reshape(8, -1).T, np.int64)
        rows = [data["".join(map(str, row))] for row in index.tolist()]
        acc1 = np.array([row["test_acc"] for row in rows], float)[:, :, None]
        labels = {name: np.array([row[name] for row in rows], float) for name in _COUNTS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not NAS-Bench-Macro's table, or damaged: {error!r}") from None
    choices = tuple(Coordinate(f"layer{i}", (0, 1, 2), False, True, (0, 1, 2)) for i in range(8))
    trainings = np.full(len(index), acc1.shape[1])
    return _space("nas-bench-macro", 10, choices, index, labels, acc1, trainings)


def _space(
    name: str,
    classes: int,
    coordinates: tuple[Coordinate, ...],
    index: IntMatrix,
    labels: Mapping[str, Floats],
    acc1: Floats,
    trainings: IntVector,
) -> TableSpace:
    row = Row((3, 3), (1, 1), 16, 1, 1, False)  # of the placeholder
    return TableSpace(
        name,
        "a table",
        3,
        classes,
        32,
        (3, 16, 1),
        (row,),
        (1, 16),
        1.0,
        coordinates,
        table=index,
        labels=labels,
        acc1=acc1,
        trainings=trainings,
    )


class _Column(NamedTuple):
    """A column of a CSV file: its name there, what it holds (arch, recipe, label, note, acc1), and its name or epoch."""

    header: str
    kind: str
    name: str
    epoch: int


class _Line(NamedTuple):
    """A line of a CSV file: its number, and its cells by header."""

    number: int
    cells: dict[str, str]


def _read_csv(path: Path) -> TableSpace:
    reader = _CsvReader(path)
    columns = reader.columns()
    lines = list(reader.lines([c.header for c in columns]))
    if not lines:
        raise InputError(f"{path} has a header but no line; give a line for every training")
    searched = [c for c in columns if c.kind in ("arch", "recipe")]
    values = {c.header: [_value(line.cells[c.header]) for line in lines] for c in searched}
    coordinates = tuple(_coordinate(c, values[c.header]) for c in searched)
    index = np.stack(
        [[k.values.index(v) for v in values[c.header]] for c, k in zip(searched, coordinates, strict=True)], axis=1
    )
    first: dict[tuple[int, ...], int] = {}  # the line of a pair's first training
    owner = [first.setdefault(tuple(row), i) for i, row in enumerate(index.tolist())]
    kept = list(first.values())
    curves = [reader.curve(line, [c for c in columns if c.kind == "acc1"]) for line in lines]
    trainings = np.bincount(owner, minlength=len(lines))[kept]
    acc1 = np.full((len(kept), int(trainings.max()), len(curves[0])), np.nan)
    place, seen = {line: i for i, line in enumerate(kept)}, dict.fromkeys(kept, 0)
    for one, curve in zip(owner, curves, strict=True):
        acc1[place[one], seen[one]] = curve
        seen[one] += 1
    labels = {}
    for c in (c for c in columns if c.kind == "label"):
        numbers = np.array([reader.label(line, c) for line in lines])
        for i in np.flatnonzero(numbers != numbers[owner]):
            rule = f"line {lines[owner[i]].number} has the same pair and {numbers[owner[i]]:g}; a pair costs the same"
            raise reader.wrong(lines[i], c, rule)
        labels[c.name] = numbers[kept]
    return _space(path.stem, CLASSES, coordinates, index[kept].astype(np.int64), labels, acc1, trainings)


class _CsvReader:
    """Cells of one file, and what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a table of trainings: {error}; give a CSV file") from None

    def columns(self) -> list[_Column]:
        found = []
        for header in self.rows[0] if self.rows else []:
            match = _COLUMN.fullmatch(header)
            if not match:
                allowed = "arch.NAME, recipe.NAME, label.NAME, note.NAME, acc1, or acc1.1, acc1.2, .."
                raise InputError(f"{self.path}: line 1, column {header!r}: unknown; allowed: {allowed}")
            found.append(_Column(header, match[1] or "acc1", match[2] or "", int(match[3] or 1)))
        searched = [c.name for c in found if c.kind in ("arch", "recipe")]
        twice = {c.header for c in found if [d.header for d in found].count(c.header) > 1}
        twice |= {name for name in searched if searched.count(name) > 1}
        missing = [f"label.{name}" for name in _COUNTS if f"label.{name}" not in {c.header for c in found}]
        epochs = sorted(c.epoch for c in found if c.kind == "acc1")
        for bad, what in (
            (sorted(twice), "given twice"),
            ([] if searched else ["arch.NAME or recipe.NAME"], "missing"),
            (missing, "missing"),
            ([] if epochs else ["acc1"], "missing"),
            ([] if epochs == list(range(1, len(epochs) + 1)) else ["acc1"], "epochs must be 1, 2, .. without a gap"),
        ):
            if bad:
                raise InputError(f"{self.path}: line 1, column {bad[0]!r}: {what}")
        return sorted(found, key=lambda c: c.epoch)

    def lines(self, headers: Sequence[str]) -> Iterator[_Line]:
        for number, row in enumerate(self.rows[1:], 2):
            if len(row) != len(headers):
                raise InputError(
                    f"{self.path}: line {number} has {len(row)} cells, the header has {len(headers)}; one a column"
                )
            yield _Line(number, dict(zip(self.rows[0], row, strict=True)))

    def label(self, line: _Line, column: _Column) -> float:
        value = self.number(line, column)
        if column.name in _COUNTS and (value < 1 or value != int(value)):
            raise self.wrong(line, column, "give a whole number from 1")
        return value

    def curve(self, line: _Line, columns: Sequence[_Column]) -> list[float]:
        curve = [math.nan if not line.cells[c.header].strip() else self.number(line, c) for c in columns]
        for c, value, before in zip(columns[1:], curve[1:], curve, strict=False):
            if math.isnan(before) and not math.isnan(value):
                raise self.wrong(line, c, "an earlier epoch is empty")
        for c, value in zip(columns, curve, strict=True):
            if not math.isnan(value) and not 0 <= value <= 100:
                raise self.wrong(line, c, "give percent")
        return curve

    def number(self, line: _Line, column: _Column) -> float:
        value = _value(line.cells[column.header])
        if isinstance(value, str) or not math.isfinite(value):
            raise self.wrong(line, column, "give a number")
        return float(value)

    def wrong(self, line: _Line, column: _Column, rule: str) -> InputError:
        given = line.cells[column.header]
        return InputError(f"{self.path}: line {line.number}, column {column.header!r} is {given!r}; {rule}")


def _value(cell: str) -> Any:
    """A whole number, another one, or the text."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _coordinate(column: _Column, cells: Sequence[Any]) -> Coordinate:
    """Numbers ascending, or texts in alphabetical order."""
    ordered = not any(isinstance(cell, str) for cell in cells)
    values = tuple(sorted(set(cells))) if ordered else tuple(sorted({str(cell) for cell in cells}))
    if not ordered:
        cells[:] = map(str, cells)  # type: ignore[index]
    return Coordinate(column.name, values, ordered, column.kind == "arch", values)
