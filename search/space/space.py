"""A search space as data: Table 2 of the paper in a YAML file, read strictly, and the architectures and recipes in it.

A candidate is a row of indices, one a coordinate; a coordinate is a list of values. Rows of indices are what sampling,
labels, encoding and evolution work on; only a training needs the `Arch` and the `Recipe`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
import yaml

from fbnetv3.arch import Arch, Block
from fbnetv3.complexity import round_width
from fbnetv3.errors import InputError, check_keys
from fbnetv3.schema import find_yaml, list_yaml, load_yaml
from fbnetv3.training.recipe import Recipe

SCHEMA = 1
MAX_VALUES = 10_000  # of one coordinate
MAX_WHOLE = 100_000  # of a size: labels count in 64 bits
WHOLE = f"a whole number from 1 to {MAX_WHOLE:,}"
SPACES = Path(__file__).parent / "spaces"
RECIPE_FIELDS = ("lr", "optimizer", "ema", "dropout", "stochastic_depth", "mixup", "weight_decay")
IntMatrix = npt.NDArray[np.int64]
IntVector = npt.NDArray[np.int64]
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_RANGE = re.compile(rf"\({_NUMBER},{_NUMBER}(?:,{_NUMBER})?\)(e-?\d{{1,2}})?(?:\^(\w+))?")
_ANY_RECIPE = Recipe("sgd", 0.1, epochs=1, batch_size=2)  # to try values in


class Candidate(NamedTuple):
    """The pair (A, h) of the paper, and the values of the coordinates that it is made of, by name (widths as built)."""

    arch: Arch
    recipe: Recipe
    values: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Coordinate:
    """One searched choice. Values of an ordered one ascend; widths are as built, and may repeat after rounding."""

    name: str
    values: tuple[Any, ...]
    ordered: bool  # a range, encoded min-max; otherwise a choice, encoded one-hot
    arch: bool  # of the architecture; otherwise of the recipe
    nominal: tuple[Any, ...]  # the values as the file has them: widths before rounding

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The values, to index with a column."""
        return np.array(self.values)

    @cached_property
    def first(self) -> IntVector:
        """By index, the least index that has the same value."""
        return np.array([self.values.index(value) for value in self.values])


@dataclass(frozen=True)
class Row:
    """A line of the space: names of coordinates, or fixed values; `rest` is what blocks after the first have."""

    k: tuple[str | int, str | int]  # first block, rest
    e: tuple[str | int, str | int]
    c: str | int
    n: str | int
    s: int
    se: bool


@dataclass(frozen=True)
class SearchSpace:
    """All pairs of an architecture and a recipe that a search may propose (Omega in the paper)."""

    name: str
    about: str
    in_chans: int
    num_classes: int
    resolution: str | int
    stem: tuple[int, str | int, int]  # k, c, s
    rows: tuple[Row, ...]
    head: tuple[int, int]  # e, c
    sgd_lr_factor: float
    coordinates: tuple[Coordinate, ...]
    fixed: tuple[tuple[str, Any], ...] = ()  # recipe fields that every pair has at one value

    @cached_property
    def sizes(self) -> IntMatrix:
        """Number of values of every coordinate."""
        return np.array([len(c.values) for c in self.coordinates])

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the images that its networks see."""
        if isinstance(self.resolution, int):
            return (self.resolution,)
        return next(c.values for c in self.coordinates if c.name == self.resolution)

    @property
    def arch_size(self) -> int:
        """Number of architectures as written, rounding not considered."""
        return math.prod(len(c.values) for c in self.coordinates if c.arch)

    @property
    def built_size(self) -> int:
        """Number of architectures as built: widths that round to the same count once."""
        return math.prod(len(set(c.values)) for c in self.coordinates if c.arch)

    @property
    def recipe_size(self) -> int:
        """Number of recipes as written."""
        return math.prod(len(c.values) for c in self.coordinates if not c.arch)

    def columns(self, index: IntMatrix) -> dict[str, npt.NDArray[Any]]:
        """Values by coordinate name of index rows [n, d]; widths as built."""
        return {c.name: c.array[index[:, j]] for j, c in enumerate(self.coordinates)}

    def canonical(self, index: IntMatrix) -> IntMatrix:
        """Index rows in which widths that round to the same value have the same index, so that equal pairs are equal rows."""
        out: IntMatrix = index.copy()
        for j, coordinate in enumerate(self.coordinates):
            if len(set(coordinate.values)) < len(coordinate.values):
                out[:, j] = coordinate.first[index[:, j]]
        return out

    def distinct(self, index: IntMatrix) -> IntVector:
        """Positions, ascending, of the rows that equal no earlier row; with `canonical` rows, of the different pairs."""
        # A row as few whole numbers: its digits in a number system of mixed base, as many as 63 bits hold.
        words, room = [np.zeros(len(index), np.int64)], 2**63
        for column, size in zip(index.T, self.sizes.tolist(), strict=True):
            room //= size
            if not room:
                words.append(np.zeros(len(index), np.int64))
                room = 2**63 // size
            words[-1] = words[-1] * size + column
        order = np.lexsort(words)  # stable: of equal rows the earliest comes first
        new = np.ones(len(index), bool)
        new[1:] = np.any([word[order[1:]] != word[order[:-1]] for word in words], axis=0)
        first: IntVector = np.sort(order[new])
        return first

    def arch(self, index: Sequence[int], name: str) -> Arch:
        """The architecture of one index row."""
        value = self._values(index)

        def get(entry: str | int) -> int:
            return int(value[entry]) if isinstance(entry, str) else entry

        stages: list[list[Block]] = []
        for row in self.rows:
            n = get(row.n)
            first = Block("ir", get(row.c), get(row.k[0]), get(row.e[0]), 1, row.s, row.se)
            rest = Block("ir", get(row.c), get(row.k[1]), get(row.e[1]), n - 1, 1, row.se) if n > 1 else None
            if row.s > 1 or not stages:
                stages.append([])
            stages[-1] += [first] if rest is None else [first, rest]
        k, c, s = self.stem
        return Arch(
            name,
            get(self.resolution),
            Block("conv", get(c), k=k, s=s),
            tuple(map(tuple, stages)),
            Block("pool", self.head[1], e=self.head[0]),
        )

    def recipe(self, index: Sequence[int], base: Recipe) -> Recipe:
        """`base` with the space's values, those of one index row included; SGD's rate is multiplied (Table 2, caption)."""
        value = self._values(index)
        changes = dict(self.fixed) | {c.name: value[c.name] for c in self.coordinates if not c.arch}
        if changes.get("optimizer", base.optimizer) == "sgd" and "lr" in changes:
            changes["lr"] *= self.sgd_lr_factor
        return base.replace(**changes)

    def candidate(self, index: Sequence[int], base: Recipe, name: str) -> Candidate:
        """Both."""
        return Candidate(self.arch(index, name), self.recipe(index, base), self._values(index))

    def find(self, values: Mapping[str, Any]) -> list[int]:
        """The index row of a candidate's `values`.

        Raises:
            InputError: no such values.
        """
        if set(values) != {c.name for c in self.coordinates}:
            names = ", ".join(c.name for c in self.coordinates)
            raise InputError(f"space {self.name}: a pair has values of {names}; given: {', '.join(values) or 'none'}")
        wrong = [c for c in self.coordinates if values[c.name] not in c.values]
        if wrong:
            raise InputError(f"space {self.name} has no {wrong[0].name} of {values[wrong[0].name]!r}")
        return [c.values.index(values[c.name]) for c in self.coordinates]

    @property
    def listed(self) -> IntMatrix | None:
        """The index rows that are pairs; None says all of them. Only of a table that has some combinations of values."""
        return None

    def holds(self, index: IntMatrix) -> npt.NDArray[np.bool_]:
        """Which index rows are pairs."""
        return np.ones(len(index), bool)

    def _values(self, index: Sequence[int]) -> dict[str, Any]:
        if len(index) != len(self.coordinates) or any(not 0 <= i < n for i, n in zip(index, self.sizes, strict=True)):
            raise InputError(f"space {self.name}: {list(index)} is no index row; sizes are {self.sizes.tolist()}")
        return {c.name: c.values[i] for c, i in zip(self.coordinates, index, strict=True)}


def list_spaces() -> list[str]:
    """Names of the spaces in the package."""
    return list_yaml(SPACES)


def load_space(name: str) -> SearchSpace:
    """Read a space of the package by name, a user's by the path of its YAML file, or a table of trainings.

    Raises:
        InputError: no such space, or a file that breaks the grammar; the message names file, key and value.
    """
    if name.endswith((".csv", ".json")):
        from fbnetv3.search.space.table import read_table  # tables are spaces, and import this module

        return read_table(Path(name))
    path = find_yaml(name, SPACES, "search space", ", or of a table (.csv, .json)")
    return _Reader(str(path)).read(load_yaml(path, "search space"))


@dataclass(frozen=True)
class _File:
    schema: int
    name: str
    about: str
    resolution: Any
    in_chans: int
    num_classes: int
    stem: Any
    rows: Any
    head: Any
    recipe: Any
    sgd_lr_factor: float = 1.0


@dataclass(frozen=True)
class _StemLine:
    k: int
    c: Any
    s: int


@dataclass(frozen=True)
class _RowLine:
    k: Any
    e: Any
    c: Any
    n: Any
    s: int
    se: bool


@dataclass(frozen=True)
class _HeadLine:
    e: int
    c: int


def _is_whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= MAX_WHOLE


class _Reader:
    """Reads one file, collecting coordinates in the order of their first mention."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.coordinates: dict[str, Coordinate] = {}

    def read(self, data: Any) -> SearchSpace:
        file = _File(**check_keys(data, _File, self.where))
        if file.schema != SCHEMA:
            raise self.wrong("schema", file.schema, f"this version reads {SCHEMA}")
        for key in ("name", "about"):
            if not isinstance(getattr(file, key), str) or not getattr(file, key):
                raise self.wrong(key, getattr(file, key), "give a text")
        for key in ("in_chans", "num_classes"):
            self.whole(key, getattr(file, key))
        if type(file.sgd_lr_factor) not in (int, float) or not 0 < file.sgd_lr_factor < math.inf:
            raise self.wrong("sgd_lr_factor", file.sgd_lr_factor, "give a number above 0")
        resolution = self.entry("resolution", file.resolution)
        stem = self.stem(file.stem)
        if not isinstance(file.rows, list) or not file.rows:
            raise self.wrong("rows", file.rows, "give a list of rows")
        rows = tuple(self.row(i, line) for i, line in enumerate(file.rows))
        head = _HeadLine(**check_keys(file.head, _HeadLine, f"{self.where}: head"))
        head_sizes = self.whole("head.e", head.e), self.whole("head.c", head.c)
        fixed = self.recipe(file.recipe)
        return SearchSpace(
            file.name,
            file.about,
            file.in_chans,
            file.num_classes,
            resolution,
            stem,
            rows,
            head_sizes,
            file.sgd_lr_factor,
            tuple(self.coordinates.values()),
            fixed,
        )

    def stem(self, line: Any) -> tuple[int, str | int, int]:
        stem = _StemLine(**check_keys(line, _StemLine, f"{self.where}: stem"))
        k, s = self.whole("stem.k", stem.k), self.whole("stem.s", stem.s)
        self.odd("stem.k", [k])
        return k, self.entry("stem.c", stem.c, width=True), s

    def row(self, i: int, line: Any) -> Row:
        row = _RowLine(**check_keys(line, _RowLine, f"{self.where}: rows[{i}]"))
        if type(row.se) is not bool:
            raise self.wrong(f"row{i}.se", row.se, "give true or false")
        kernels = self.first_rest(f"row{i}.k", row.k)
        for entry in kernels:
            self.odd(f"row{i}.k", self.coordinates[entry].values if isinstance(entry, str) else [entry])
        return Row(
            kernels,
            self.first_rest(f"row{i}.e", row.e),
            self.entry(f"row{i}.c", row.c, width=True),
            self.entry(f"row{i}.n", row.n),
            self.whole(f"row{i}.s", row.s),
            row.se,
        )

    def recipe(self, lines: Any) -> tuple[tuple[str, Any], ...]:
        """Makes the coordinates of the searched fields; returns the fixed ones."""
        if not isinstance(lines, Mapping):
            raise self.wrong("recipe", lines, "give a mapping (it may be empty: {})")
        fixed = []
        for key, value in lines.items():
            if key not in RECIPE_FIELDS:
                raise InputError(f"{self.where}: recipe has {key!r}; searchable: {', '.join(RECIPE_FIELDS)}")
            entry = value if isinstance(value, str) and value.isidentifier() else self.entry(key, value, arch=False)
            searched = key in self.coordinates
            for one in self.coordinates[key].values if searched else [entry]:
                try:
                    _ANY_RECIPE.replace(**{key: one})
                except InputError as error:
                    raise InputError(f"{self.where}: {error}") from None
            if not searched:
                fixed.append((key, entry))
        return tuple(fixed)

    def first_rest(self, name: str, value: Any) -> tuple[str | int, str | int]:
        """'a/b' is two entries; anything else one that all blocks of the row share."""
        if isinstance(value, str) and "/" in value:
            first, rest = value.split("/", 1)
            return self.entry(f"{name}.first", first), self.entry(f"{name}.rest", rest)
        both = self.entry(name, value)
        return both, both

    def entry(self, name: str, value: Any, *, width: bool = False, arch: bool = True) -> Any:
        """A fixed value, or the name of the coordinate made (or shared) for a range or a choice."""
        given, shared, ordered = value, None, False
        if isinstance(value, str):
            value, shared, ordered = self.parse(name, value)
        if not isinstance(value, list):
            if arch and not _is_whole(value):
                raise self.wrong(name, given, f"give {WHOLE}, a [choice] or a (low, high, step)")
            if shared:
                raise self.wrong(name, given, "a fixed value is the same everywhere; leave out the ^")
            return value
        if not value or any(type(v) not in (bool, int, float, str) for v in value) or len(set(value)) < len(value):
            raise self.wrong(name, given, "give different values")
        if arch and not all(map(_is_whole, value)):
            raise self.wrong(name, given, f"each must be {WHOLE}")
        values = tuple(round_width(v) if width else v for v in value)
        if shared:
            name = f"{name.split('.', 1)[-1]}^{shared}"
        made = Coordinate(name, values, ordered, arch, tuple(value))
        if self.coordinates.setdefault(name, made) != made:
            raise self.wrong(name, given, f"an earlier row shares it as {list(self.coordinates[name].nominal)}")
        return name

    def parse(self, name: str, text: str) -> tuple[Any, str | None, bool]:
        """A range '(low, high[, step])[eX][^share]', a choice '[a, b][^share]' or a number, from text."""
        match = _RANGE.fullmatch(text.strip())
        if match:
            low, high, step = (Decimal(match[i] or "1") for i in (1, 2, 3))
            scale = Decimal(f"1{match[4]}") if match[4] else Decimal(1)
            if step <= 0 or high < low or (high - low) % step:
                raise self.wrong(name, text, "high must be low plus a whole number of steps")
            count = int((high - low) / step) + 1
            if count > MAX_VALUES:
                raise self.wrong(name, text, f"that is {count:,} values; at most {MAX_VALUES:,}")
            values = [(low + i * step) * scale for i in range(count)]
            whole = all(v == int(v) for v in values) and match[4] is None
            return [int(v) if whole else float(v) for v in values], match[5], True
        body, _, shared = text.partition("^")
        try:
            value = yaml.safe_load(body)
        except yaml.YAMLError:
            value = None
        if not isinstance(value, int | list):
            raise self.wrong(name, text, "give '(low, high, step)', '(low, high)', '[a, b]' or a number")
        return value, shared or None, False

    def whole(self, name: str, value: Any) -> int:
        if not _is_whole(value):
            raise self.wrong(name, value, f"give {WHOLE}")
        return value

    def odd(self, name: str, values: Sequence[int]) -> None:
        if any(value % 2 == 0 for value in values):
            raise self.wrong(name, list(values), "give odd kernels")

    def wrong(self, name: str, value: Any, rule: str) -> InputError:
        return InputError(f"{self.where}: {name} is {value!r}; {rule}")
