"""The YAML grammar of search spaces: a strict reader.

Table 2 of the paper is a file in this grammar (spaces/table2.yaml); docs/search.md explains it. `load_space` also reads a
table of trainings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeGuard

from fbnetv3.complexity import round_width
from fbnetv3.errors import InputError, check_keys, quote
from fbnetv3.schema import dump_yaml, find_yaml, list_yaml, load_yaml, parse_yaml
from fbnetv3.search.space.layout import Layout, Row
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.search.space.space import Coordinate, Entry, SearchSpace
from fbnetv3.search.space.table_file import SUFFIXES, read_table
from fbnetv3.training.data.shape import DataShape
from fbnetv3.training.recipe import Recipe

SCHEMA = 1
MAX_VALUES = 10_000  # of one coordinate
MAX_WHOLE = 100_000  # of a size: costs are counted in 64 bits
WHOLE = f"a whole number from 1 to {MAX_WHOLE:,}"
SPACES = Path(__file__).parent / "spaces"
RECIPE_FIELDS = ("lr", "optimizer", "ema", "dropout", "stochastic_depth", "mixup", "weight_decay")
FROM_DATA = "data"  # value of a key that is taken from the data
ANY_DATA = DataShape(3, 10, 10**4, 1)  # for what does not depend on the data, such as the size of a space
Scale = Literal["linear", "log"]  # of a range
_SIDE = re.compile(r"data(?: up to (\d{1,6}))?")
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_RANGE = re.compile(rf"\({_NUMBER},{_NUMBER}(?:,{_NUMBER})?\)(e-?\d{{1,2}})?(?:\^(\w+))?")
_LOG_RANGE = re.compile(rf"log\({_NUMBER},{_NUMBER},\s*(\d{{1,5}})\s*\)(e-?\d{{1,2}})?(?:\^(\w+))?")
_LOG_DIGITS = 4  # significant digits of the values of a log range between its ends
_ANY_RECIPE = Recipe("sgd", 0.1, epochs=1, batch_size=2)  # to check searched values in


def list_spaces() -> list[str]:
    """Return the names of the spaces in the package."""
    return list_yaml(SPACES)


def load_space(name: str, shape: DataShape | None = None) -> SearchSpace:
    """Read a space of the package by name, a custom one by the path of its YAML file, or a table of trainings by its path.

    Args:
        shape: of the data that the space is for. It counts where the file takes something from the data.

    Raises:
        InputError: no such space, a file that breaks the grammar (the message names file, key and value), or one that takes
            something from the data, and no shape.
    """
    path = space_path(name)
    if name.endswith(SUFFIXES):
        return read_table(path)
    lines = load_yaml(path, "search space")
    if shape is None and (open_keys := _taken(lines)):
        raise InputError(
            f"{path}: {open_keys[0]} is {quote(lines[open_keys[0]])}: a search takes it from its --data; here, give a copy of "
            f"the file with numbers for {', '.join(open_keys)}, such as `fbnetv3 search init` writes"
        )
    return _Reader(str(path)).read(lines if shape is None else _filled(lines, shape))


def takes_from_data(name: str) -> bool:
    """Whether a space takes channels, classes or image size from the data.

    Raises:
        InputError: no such space.
    """
    return not name.endswith(SUFFIXES) and bool(_taken(load_yaml(space_path(name), "search space")))


def filled(name: str, shape: DataShape) -> bytes:
    """Return the content of a space's file with the numbers of some data in place of what it takes from data."""
    return dump_yaml(_filled(load_yaml(space_path(name), "search space"), shape)).encode()


def _taken(lines: Mapping[str, Any]) -> list[str]:
    """Return the keys of a space's file whose values are taken from the data."""
    side = str(lines.get("resolution"))
    keys = [key for key in ("in_chans", "num_classes") if lines.get(key) == FROM_DATA]
    return (["resolution"] if _SIDE.fullmatch(side) else []) + keys


def _filled(lines: Mapping[str, Any], shape: DataShape) -> dict[str, Any]:
    most = _SIDE.fullmatch(str(lines.get("resolution")))
    side = shape.side if most is None or most[1] is None else min(shape.side, int(most[1]))
    found = {"resolution": side, "in_chans": shape.in_chans, "num_classes": shape.num_classes}
    return dict(lines) | {key: found[key] for key in _taken(lines)}


def space_path(name: str) -> Path:
    """Return the path of the file that `load_space` reads.

    Raises:
        InputError: no such space.
    """
    if name.endswith(SUFFIXES):
        return Path(name)  # a table that is not there is refused when it is read
    return find_yaml(name, SPACES, "search space", ", or of a table (.csv, .json, .npz)")


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


def _plain(values: Sequence[Decimal], may_be_whole: bool) -> list[int] | list[float]:
    """Return numbers of a file: whole ones if all of them are."""
    if may_be_whole and all(value == int(value) for value in values):
        return [int(value) for value in values]
    return [float(value) for value in values]


def _is_whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= MAX_WHOLE


class _Reader:
    """Reads one file and collects its coordinates in the order in which they first appear."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.coordinates: dict[str, Coordinate] = {}

    def read(self, data: Any) -> NetworkSpace:
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
        return NetworkSpace(
            name=file.name,
            about=file.about,
            in_chans=file.in_chans,
            num_classes=file.num_classes,
            coordinates=tuple(self.coordinates.values()),
            layout=Layout(resolution, stem, rows, head_sizes),
            sgd_lr_factor=file.sgd_lr_factor,
            fixed=fixed,
        )

    def stem(self, line: Any) -> tuple[int, Entry, int]:
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
        """Make the coordinates of the searched recipe fields, and return the fields that have a fixed value."""
        if not isinstance(lines, Mapping):
            raise self.wrong("recipe", lines, "give a mapping (it may be empty: {})")
        fixed = []
        for key, value in lines.items():
            if key not in RECIPE_FIELDS:
                raise InputError(f"{self.where}: recipe has {key!r}; searchable: {', '.join(RECIPE_FIELDS)}")
            # A bare word is a fixed value, such as the name of an optimizer, and no range or choice.
            entry = value if isinstance(value, str) and value.isidentifier() else self.entry(key, value, arch=False)
            searched = key in self.coordinates
            # A value that no recipe accepts is refused here, and not in the middle of a search.
            for one in self.coordinates[key].values if searched else [entry]:
                try:
                    _ANY_RECIPE.replace(**{key: one})
                except InputError as error:
                    raise InputError(f"{self.where}: {error}") from None
            if not searched:
                fixed.append((key, entry))
        return tuple(fixed)

    def first_rest(self, name: str, value: Any) -> tuple[Entry, Entry]:
        """Return the entries of a row's first block and of its further blocks.

        The text 'a/b' gives two entries. Anything else gives one entry, which all blocks of the row share.
        """
        if isinstance(value, str) and "/" in value:
            first, rest = value.split("/", 1)
            return self.entry(f"{name}.first", first), self.entry(f"{name}.rest", rest)
        both = self.entry(name, value)
        return both, both

    def entry(self, name: str, value: Any, *, width: bool = False, arch: bool = True) -> Any:
        """Return a fixed value, or the name of a coordinate.

        A range or a choice becomes a coordinate, or shares the one that an earlier row made with the same ^ mark.

        Args:
            width: round the values as they are built.
            arch: the entry belongs to the architecture and not to the recipe.
        """
        given, shared, scale = value, None, None
        if isinstance(value, str):
            value, shared, scale = self.parse(name, value)
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
            # Rows share by kind of entry: `row2.e.first` and `row3.e.first` with ^1 are the coordinate `e.first^1`.
            name = f"{name.split('.', 1)[-1]}^{shared}"
        made = Coordinate(name, values, scale is not None, arch, tuple(value), log=scale == "log")
        if self.coordinates.setdefault(name, made) != made:
            raise self.wrong(name, given, f"an earlier row shares it as {list(self.coordinates[name].nominal)}")
        return name

    def parse(self, name: str, text: str) -> tuple[Any, str | None, Scale | None]:
        """Parse a range, a choice '[a, b][^share]' or a number.

        A range is '(low, high[, step])[eX][^share]', or 'log(low, high, count)[eX][^share]' with values in equal ratios.

        Returns:
            A list of values or a single value, the ^ mark without the ^, and the scale of a range.
        """
        match = _LOG_RANGE.fullmatch(text.strip())
        if match:
            return self.log_range(name, text, match), match[5], "log"
        match = _RANGE.fullmatch(text.strip())
        if match:
            # Decimal, because 0.1 + 2 * 0.1 is not 0.3 in binary floating point.
            low, high, step = (Decimal(match[i] or "1") for i in (1, 2, 3))
            scale = Decimal(f"1{match[4]}") if match[4] else Decimal(1)
            if step <= 0 or high < low or (high - low) % step:
                raise self.wrong(name, text, "high must be low plus a whole number of steps")
            count = int((high - low) / step) + 1
            if count > MAX_VALUES:
                raise self.wrong(name, text, f"that is {count:,} values; at most {MAX_VALUES:,}")
            values = [(low + i * step) * scale for i in range(count)]
            return _plain(values, match[4] is None), match[5], "linear"
        body, _, shared = text.partition("^")
        try:
            value = parse_yaml(body, name)
        except InputError:
            value = None
        if not isinstance(value, int | list):
            raise self.wrong(
                name, text, "give '(low, high, step)', '(low, high)', 'log(low, high, count)', '[a, b]' or a number"
            )
        return value, shared or None, None

    def log_range(self, name: str, text: str, match: re.Match[str]) -> list[int] | list[float]:
        """Return the values of a log range: both ends, and between them equal ratios, rounded."""
        scale = Decimal(f"1{match[4]}") if match[4] else Decimal(1)
        low, high, count = Decimal(match[1]) * scale, Decimal(match[2]) * scale, int(match[3])
        if not 0 < low < high or not 2 <= count <= MAX_VALUES:
            raise self.wrong(name, text, f"low must be above 0 and below high, and the count from 2 to {MAX_VALUES:,}")
        ratio = (high / low) ** (Decimal(1) / (count - 1))
        between = [Decimal(f"{low * ratio**i:.{_LOG_DIGITS}g}") for i in range(1, count - 1)]
        return _plain([low, *between, high], match[4] is None)

    def whole(self, name: str, value: Any) -> int:
        if not _is_whole(value):
            raise self.wrong(name, value, f"give {WHOLE}")
        return value

    def odd(self, name: str, values: Sequence[int]) -> None:
        if any(value % 2 == 0 for value in values):
            raise self.wrong(name, list(values), "give odd kernels")

    def wrong(self, name: str, value: Any, rule: str) -> InputError:
        return InputError(f"{self.where}: {name} is {value!r}; {rule}")
