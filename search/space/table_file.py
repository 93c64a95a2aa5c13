"""Reads tables of trainings: CSV files, and the file of NAS-Bench-Macro.

`load_space("trainings.csv")` reads a CSV file with a header. Every line is one training. Lines with equal coordinates are
trainings of the same candidate, which has the same costs in all of them. The columns, in any order:

- `arch.NAME`, `recipe.NAME`: a coordinate of the architecture or of the recipe, such as `arch.row0.k` or `recipe.lr`. A column
  of numbers is a range, which the predictor sees min-max scaled. Any other column, such as one with `k3` and `k5`, is a choice.
- `label.flops`, `label.params`: whole numbers from 1. A table has one convention; the convention of a constraint is ignored.
- `label.NAME`: another statistic for pretraining, any number.
- `acc1`, or `acc1.1`, `acc1.2`, ..: accuracy in percent after the only epoch, or after every epoch. A training that was
  stopped early leaves the last ones empty. A training that diverged leaves all of them empty: it counts as chance among
  1,000 classes.
- `note.NAME`: anything; it is not read.

`load_space("nas-bench-macro_cifar10.json")` reads the file of https://github.com/xiusu/NAS-Bench-Macro (Apache-2.0).

`load_space("trainings.npz")` reads the table file of this package: see `table_archive.py`. `read_table(Path("fashion_mnist"))`
reads the table that the package has: real trainings in the quickstart's space.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbnetv3.errors import QUOTED_PATH, InputError, available, quote
from fbnetv3.schema import load_json, read_text
from fbnetv3.search.space.space import Coordinate, Floats, IntMatrix, IntVector
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_archive import MOST_COUNT as MOST
from fbnetv3.search.space.table_archive import SUFFIX, read_archive

SUFFIXES = (".csv", ".json", SUFFIX)
TABLES = Path(__file__).parent / "tables"
MOST_BYTES = 1 << 30
CLASSES = 1000  # of a CSV file, which does not say how many classes its data has
_COLUMN = re.compile(r"(arch|recipe|label|note)\.(.+)|acc1(?:\.([1-9]\d*))?")
_COUNTS = ("flops", "params")


def list_tables() -> list[str]:
    """Return the names of the tables in the package."""
    return sorted(path.stem for path in TABLES.glob(f"*{SUFFIX}"))


def table_path(path: Path) -> Path:
    """Return the path of the file that `read_table` reads: that of a table of the package by name, or the given one.

    Raises:
        InputError: a name, which no table of the package has.
    """
    if path.suffix:
        return path
    found = TABLES / f"{path}{SUFFIX}"
    if not found.is_file():
        choices = available(str(path), list_tables(), f", or the path of a file ({', '.join(SUFFIXES)})")
        raise InputError(f"unknown table {quote(str(path), QUOTED_PATH)}; {choices}")
    return found


def read_table(path: Path) -> TableSpace:
    """Read a table of the package by name, or a file, whose suffix tells which kind it is.

    Raises:
        InputError: no such table, or one that breaks the rules; the message names file, line and column.
    """
    path = table_path(path)
    if path.suffix == SUFFIX:
        return read_archive(path)
    return _read_macro(path) if path.suffix == ".json" else _read_csv(path)


def _read_macro(path: Path) -> TableSpace:
    """Read NAS-Bench-Macro: 8 layers with 3 choices each; every network was trained three times on CIFAR-10."""
    data = load_json(path, "table of NAS-Bench-Macro")
    try:
        index = np.asarray(np.indices((3,) * 8).reshape(8, -1).T, np.int64)
        rows = [data["".join(map(str, row))] for row in index.tolist()]  # a key has one digit for every layer
        acc1 = np.array([row["test_acc"] for row in rows], float)[:, :, None]
        labels = {name: np.array([row[name] for row in rows], float) for name in _COUNTS}
        if not acc1.size or not ((acc1 >= 0) & (acc1 <= 100)).all():
            raise ValueError("test_acc has a value outside of 0 to 100, or none")
        if not all(((counts >= 1) & (counts <= MOST)).all() for counts in labels.values()):
            raise ValueError(f"flops or params are not from 1 to {MOST:,}")
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path}: this is not the table of NAS-Bench-Macro, or it is damaged: {quote(error)}"
        ) from None
    choices = tuple(Coordinate(f"layer{i}", (0, 1, 2), False, True, (0, 1, 2)) for i in range(8))
    trainings = np.full(len(index), acc1.shape[1])
    facts = {
        "data": "NAS-Bench-Macro on CIFAR-10",
        "splits": "training images, and the 10,000 test images, which the accuracies are of",
        "metric": "accuracy in percent",
        "costs": "those of the file",
        "licence": "Apache-2.0",
        "citation": "Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021",
        "source": "https://github.com/xiusu/NAS-Bench-Macro",
    }
    space = _space("nas-bench-macro", 10, choices, index, labels, acc1, trainings)
    return dataclasses.replace(space, facts=facts)


def _space(
    name: str,
    classes: int,
    coordinates: tuple[Coordinate, ...],
    index: IntMatrix,
    labels: Mapping[str, Floats],
    acc1: Floats,
    trainings: IntVector,
) -> TableSpace:
    return TableSpace(
        name=name,
        about="a table",
        in_chans=3,
        num_classes=classes,
        coordinates=coordinates,
        table=index,
        labels=labels,
        acc1=acc1,
        trainings=trainings,
    )


class _Column(NamedTuple):
    """A column of a CSV file.

    `kind` is what it holds: arch, recipe, label, note or acc1. `name` is the part of the header after the kind, and `epoch`
    the number of an acc1 column.
    """

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
    # Several lines may be trainings of one candidate: `owner` is, for every line, the first line of its candidate.
    first: dict[tuple[int, ...], int] = {}
    owner = [first.setdefault(tuple(row), i) for i, row in enumerate(index.tolist())]
    candidates = list(first.values())
    curves = [reader.curve(line, [c for c in columns if c.kind == "acc1"]) for line in lines]
    trainings = np.bincount(owner, minlength=len(lines))[candidates]
    acc1 = np.full((len(candidates), int(trainings.max()), len(curves[0])), np.nan)
    position, filled = {line: i for i, line in enumerate(candidates)}, dict.fromkeys(candidates, 0)
    for one, curve in zip(owner, curves, strict=True):
        acc1[position[one], filled[one]] = curve
        filled[one] += 1
    labels = {}
    for c in (c for c in columns if c.kind == "label"):
        numbers = np.array([reader.label(line, c) for line in lines])
        for i in np.flatnonzero(numbers != numbers[owner]):
            rule = (
                f"line {lines[owner[i]].number} has the same candidate with {numbers[owner[i]]:g}; a candidate has the same "
                "costs in all of its lines"
            )
            raise reader.wrong(lines[i], c, rule)
        labels[c.name] = numbers[candidates]
    return _space(path.stem, CLASSES, coordinates, index[candidates].astype(np.int64), labels, acc1, trainings)


class _CsvReader:
    """Reads the cells of one file, and says what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not `splitlines`, which also ends lines at characters that a cell may have.
        lines = re.split(r"\r\n?|\n", read_text(path, "table of trainings", MOST_BYTES))
        try:
            self.rows = list(csv.reader(lines, strict=True))
        except csv.Error as error:
            raise InputError(f"{path} cannot be read as a table of trainings: {error}; give a CSV file") from None

    def columns(self) -> list[_Column]:
        """Return the columns of the header, those of accuracies in the order of epochs."""
        found = []
        for header in self.rows[0] if self.rows else []:
            match = _COLUMN.fullmatch(header)
            if not match:
                allowed = "arch.NAME, recipe.NAME, label.NAME, note.NAME, acc1, or acc1.1, acc1.2, .."
                raise InputError(f"{self.path}: line 1, column {quote(header)}: unknown; allowed: {allowed}")
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
                raise InputError(f"{self.path}: line 1, column {quote(bad[0])}: {what}")
        return sorted(found, key=lambda c: c.epoch)

    def lines(self, headers: Sequence[str]) -> Iterator[_Line]:
        """Yield the lines after the header, but for blank ones."""
        for number, row in enumerate(self.rows[1:], 2):
            if not any(cell.strip() for cell in row):
                continue  # editors and programs leave one at the end
            if len(row) != len(headers):
                raise InputError(
                    f"{self.path}: line {number} has {len(row)} cells, the header has {len(headers)}; give one for each column"
                )
            yield _Line(number, dict(zip(self.rows[0], row, strict=True)))

    def label(self, line: _Line, column: _Column) -> float:
        """Return the statistic in a cell."""
        value = self.number(line, column)
        if column.name in _COUNTS and (not 1 <= value <= MOST or value != int(value)):
            raise self.wrong(line, column, f"give a whole number from 1 to {MOST:,}")
        return value

    def curve(self, line: _Line, columns: Sequence[_Column]) -> list[float]:
        """Return the accuracies after every epoch; nan for the last epochs of a training that was stopped or diverged."""
        curve = [math.nan if not line.cells[c.header].strip() else self.number(line, c) for c in columns]
        for c, value, before in zip(columns[1:], curve[1:], curve, strict=False):
            if math.isnan(before) and not math.isnan(value):
                raise self.wrong(line, c, "an earlier epoch is empty")
        for c, value in zip(columns, curve, strict=True):
            if not math.isnan(value) and not 0 <= value <= 100:
                raise self.wrong(line, c, "give percent")
        return curve

    def number(self, line: _Line, column: _Column) -> float:
        """Return the finite number in a cell."""
        value = _value(line.cells[column.header])
        if isinstance(value, str):
            raise self.wrong(line, column, "give a number")
        return float(value)

    def wrong(self, line: _Line, column: _Column, rule: str) -> InputError:
        """Return the error that names line, column, cell and rule."""
        given = line.cells[column.header]
        return InputError(f"{self.path}: line {line.number}, column {column.header!r} is {quote(given)}; {rule}")


def _value(cell: str) -> Any:
    """Return a cell as a whole number, else as another finite number, else as its text."""
    # Python reads 1_000 as 1000; nobody who writes tables does.
    for kind in () if "_" in cell else (int, float):
        try:
            value = kind(cell)
            # A `nan` or `inf` is no value of a range: it could not be scaled, so it counts as text.
            if math.isfinite(value):
                return value
        except (ValueError, OverflowError):
            continue
    return cell


def _coordinate(column: _Column, cells: list[Any]) -> Coordinate:
    """Return the coordinate of a column: numbers in ascending order, or texts in alphabetical order.

    Where a column mixes numbers and texts, all of `cells` become texts, in place.
    """
    ordered = not any(isinstance(cell, str) for cell in cells)
    values = tuple(sorted(set(cells))) if ordered else tuple(sorted({str(cell) for cell in cells}))
    if not ordered:
        cells[:] = map(str, cells)
    return Coordinate(column.name, values, ordered, column.kind == "arch", values)
