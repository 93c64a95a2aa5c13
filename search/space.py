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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from fbnetv3.arch import Arch, Block
from fbnetv3.complexity import round_width
from fbnetv3.errors import InputError, check_keys
from fbnetv3.schema import load_yaml
from fbnetv3.training.recipe import Recipe

SCHEMA = 1
SPACES = Path(__file__).parent / "spaces"
RECIPE_FIELDS = ("lr", "optimizer", "ema", "dropout", "stochastic_depth", "mixup", "weight_decay")
IntMatrix = npt.NDArray[np.int64]
_RANGE = re.compile(r"\(\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)(e-?\d+)?(?:\^(\w+))?")


class Candidate(NamedTuple):
    """The pair (A, h) of the paper."""

    arch: Arch
    recipe: Recipe


@dataclass(frozen=True)
class Coordinate:
    """One searched choice. Values of an ordered one ascend; widths are as built, and may repeat after rounding."""

    name: str
    values: tuple[Any, ...]
    ordered: bool  # a range, encoded min-max; otherwise a choice, encoded one-hot
    arch: bool  # of the architecture; otherwise of the recipe

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The values, to index with a column."""
        return np.array(self.values)


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

    @cached_property
    def sizes(self) -> IntMatrix:
        """Number of values of every coordinate."""
        return np.array([len(c.values) for c in self.coordinates])

    @property
    def arch_size(self) -> int:
        """Number of architectures as written, rounding not considered."""
        return math.prod(len(c.values) for c in self.coordinates if c.arch)

    @property
    def recipe_size(self) -> int:
        """Number of recipes as written."""
        return math.prod(len(c.values) for c in self.coordinates if not c.arch)

    def columns(self, index: IntMatrix) -> dict[str, npt.NDArray[Any]]:
        """Values by coordinate name of index rows [n, d]; widths as built."""
        return {c.name: c.array[index[:, j]] for j, c in enumerate(self.coordinates)}

    def canonical(self, index: IntMatrix) -> IntMatrix:
        """Index rows in which widths that round to the same value have the same index, so that equal pairs are equal rows."""
        out = np.empty_like(index)
        for j, coordinate in enumerate(self.coordinates):
            first = np.array([coordinate.values.index(value) for value in coordinate.values])
            out[:, j] = first[index[:, j]]
        return out

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
        """`base` with the searched values of one index row; SGD's rate is multiplied (Table 2, caption)."""
        value = self._values(index)
        changes = {c.name: value[c.name] for c in self.coordinates if not c.arch}
        if changes.get("optimizer", base.optimizer) == "sgd" and "lr" in changes:
            changes["lr"] *= self.sgd_lr_factor
        return base.replace(**changes)

    def candidate(self, index: Sequence[int], base: Recipe, name: str) -> Candidate:
        """Both."""
        return Candidate(self.arch(index, name), self.recipe(index, base))

    def _values(self, index: Sequence[int]) -> dict[str, Any]:
        if len(index) != len(self.coordinates) or any(not 0 <= i < n for i, n in zip(index, self.sizes, strict=True)):
            raise InputError(f"space {self.name}: {list(index)} is no index row; sizes are {self.sizes.tolist()}")
        return {c.name: c.values[i] for c, i in zip(self.coordinates, index, strict=True)}


def list_spaces() -> list[str]:
    """Names of the spaces in the package."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name: str) -> SearchSpace:
    """Read a space of the package by name, or a user's by the path of its YAML file.

    Raises:
        InputError: no such space, or a file that breaks the grammar; the message names file, key and value.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"unknown search space {name!r}; available: {', '.join(list_spaces())}, or the path of a .yaml file"
        )
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


class _Reader:
    """Reads one file, collecting coordinates in the order of their first mention."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.coordinates: dict[str, Coordinate] = {}

    def read(self, data: Any) -> SearchSpace:
        file = _File(**check_keys(data, _File, self.where))
        if file.schema != SCHEMA:
            raise InputError(f"{self.where}: schema is {file.schema!r}; this version reads {SCHEMA}")
        resolution = self.entry("resolution", file.resolution)
        stem = _StemLine(**check_keys(file.stem, _StemLine, f"{self.where}: stem"))
        stem_width = self.entry("stem.c", stem.c, width=True)
        if not isinstance(file.rows, list) or not file.rows:
            raise InputError(f"{self.where}: rows is {file.rows!r}; give a list of rows")
        rows = tuple(self.row(i, line) for i, line in enumerate(file.rows))
        head = _HeadLine(**check_keys(file.head, _HeadLine, f"{self.where}: head"))
        if not isinstance(file.recipe, Mapping):
            raise InputError(f"{self.where}: recipe is {file.recipe!r}; give a mapping (it may be empty: {{}})")
        for key, value in file.recipe.items():
            if key not in RECIPE_FIELDS:
                raise InputError(f"{self.where}: recipe has {key!r}; searchable: {', '.join(RECIPE_FIELDS)}")
            entry = self.entry(key, value, arch=False)
            if not isinstance(entry, str):
                raise InputError(
                    f"{self.where}: recipe.{key} is fixed to {value!r}; fixed values belong to the base recipe"
                )
        for key in ("in_chans", "num_classes"):
            if type(getattr(file, key)) is not int:
                raise InputError(f"{self.where}: {key} is {getattr(file, key)!r}; give a whole number")
        return SearchSpace(
            file.name, file.about, file.in_chans, file.num_classes, resolution, (stem.k, stem_width, stem.s), rows,
            (head.e, head.c), file.sgd_lr_factor, tuple(self.coordinates.values()),
        )  # fmt: skip

    def row(self, i: int, line: Any) -> Row:
        row = _RowLine(**check_keys(line, _RowLine, f"{self.where}: rows[{i}]"))
        if type(row.s) is not int or type(row.se) is not bool:
            raise InputError(
                f"{self.where}: rows[{i}]: s is {row.s!r}, se is {row.se!r}; give a whole number and true/false"
            )
        return Row(
            self.first_rest(f"row{i}.k", row.k),
            self.first_rest(f"row{i}.e", row.e),
            self.entry(f"row{i}.c", row.c, width=True),
            self.entry(f"row{i}.n", row.n),
            row.s,
            row.se,
        )

    def first_rest(self, name: str, value: Any) -> tuple[str | int, str | int]:
        """'a/b' is two entries; anything else one that all blocks of the row share."""
        if isinstance(value, str) and "/" in value:
            first, rest = value.split("/", 1)
            return self.entry(f"{name}.first", first), self.entry(f"{name}.rest", rest)
        both = self.entry(name, value)
        return both, both

    def entry(self, name: str, value: Any, *, width: bool = False, arch: bool = True) -> Any:
        """A fixed value, or the name of the coordinate made (or shared) for a range or a choice."""
        shared = None
        if isinstance(value, str):
            value, shared, ordered = self.parse(name, value)
        else:
            ordered = False
        if not isinstance(value, list):
            if arch and type(value) is not int:
                raise InputError(
                    f"{self.where}: {name} is {value!r}; give a whole number, a [choice] or a (low, high, step)"
                )
            return value
        if len(value) < 1 or len(set(value)) != len(value):
            raise InputError(f"{self.where}: {name} is {value!r}; give different values")
        if arch and any(type(v) is not int or v < 1 for v in value):
            raise InputError(f"{self.where}: {name} is {value!r}; give whole numbers from 1")
        values = tuple(round_width(v) if width else v for v in value)
        if shared:
            name = f"{name.split('.', 1)[1]}^{shared}"
        if name not in self.coordinates:
            self.coordinates[name] = Coordinate(name, values, ordered, arch)
        elif self.coordinates[name].values != values:
            raise InputError(f"{self.where}: {name} shares values with an earlier row, but they differ: {values}")
        return name

    def parse(self, name: str, text: str) -> tuple[Any, str | None, bool]:
        """A range '(low, high[, step])[eX][^share]', a choice '[a, b][^share]' or a number, from text."""
        match = _RANGE.fullmatch(text.strip())
        if match:
            low, high, step = (Decimal(match[i] or "1") for i in (1, 2, 3))
            scale = Decimal(f"1{match[4]}") if match[4] else Decimal(1)
            if step <= 0 or high < low or (high - low) % step:
                raise InputError(f"{self.where}: {name} is {text!r}; high must be low plus a whole number of steps")
            values = [(low + i * step) * scale for i in range(int((high - low) / step) + 1)]
            whole = all(v == int(v) for v in values) and match[4] is None
            return [int(v) if whole else float(v) for v in values], match[5], True
        body, _, shared = text.partition("^")
        try:
            value = yaml.safe_load(body)
        except yaml.YAMLError:
            value = None
        if not isinstance(value, int | list):
            raise InputError(
                f"{self.where}: {name} is {text!r}; give '(low, high, step)', '(low, high)', '[a, b]' or a number"
            )
        return value, shared or None, False
