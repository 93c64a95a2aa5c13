"""The numbers that the paper prints, read from `paper.yaml`, and when a measured value agrees with one of them.

In this module a `figure` is a number as it is printed, with its unit, such as "557M". A figure of the paper is an `Item`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.paper.records import read_list, read_records, read_yaml
from fbnetv3.errors import InputError, check_keys

ITEMS = tuple(f"table{i}" for i in range(1, 9)) + tuple(f"figure{i}" for i in range(1, 8))
PAPER = Path(__file__).with_name("paper.yaml")
_SCALES = {"": 0, "K": 3, "M": 6, "G": 9, "B": 9}
_FIGURE = re.compile(r"(\+?)(\d+(?:\.\d+)?)([KMGB]?)")
_ID = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Number:
    """One number of the paper.

    Attributes:
        id: `row.column`, unique in its table or figure.
        label: what the number is, in words.
        value: the number as printed, as text.
        unit: its unit. K, M, G and B scale the value.
        place: where in the table or the text it stands.
    """

    id: str
    label: str
    value: str
    unit: str
    place: str

    @property
    def row(self) -> str:
        """The part of the id before the dot: the network or setting that the number belongs to."""
        return self.id.partition(".")[0]

    @property
    def figure(self) -> str:
        """The value with its scale: 3.6 in the column "FLOPs (G)" is 3.6G."""
        return self.value + self.unit if self.unit in _SCALES else self.value


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper with every number that the paper gives for it. Those of the printed grid come first."""

    id: str
    title: str
    section: str
    note: str
    numbers: tuple[Number, ...]

    @property
    def name(self) -> str:
        """The name that the paper uses: 'Table 4'."""
        return f"{self.id[:-1].capitalize()} {self.id[-1]}"


@dataclass(frozen=True)
class _Column:
    """A column of a printed table: the second part of its numbers' ids, its heading, and the unit of its values."""

    id: str
    name: str
    unit: str


@dataclass(frozen=True)
class _Row:
    """A row of a printed table: the first part of its numbers' ids, its heading, and a value per column."""

    id: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _ItemKeys:
    """The keys of an item in the file."""

    id: str
    title: str
    section: str
    note: str = ""
    columns: Any = ()
    rows: Any = ()
    numbers: Any = ()


@dataclass(frozen=True)
class _PaperKeys:
    """The keys of the file."""

    items: Any


def load_paper(path: Path = PAPER) -> tuple[Item, ...]:
    """Return all tables and figures, in the order of `ITEMS`.

    Raises:
        InputError: an item, an id or a key is unknown, missing or given twice, or a value has the wrong type. The message names
            file, key and value.
    """
    data = check_keys(read_yaml(path), _PaperKeys, path.name)
    items = tuple(
        _item(entry, f"{path.name}: items[{i}]")
        for i, entry in enumerate(read_list(data["items"], f"{path.name}: items"))
    )
    found = tuple(item.id for item in items)
    # A table that is left out by mistake would look as if the paper had none.
    if found != ITEMS:
        raise InputError(f"{path.name}: items are {', '.join(found)}; allowed, in this order: {', '.join(ITEMS)}")
    return items


def round_like(figure: str, measured: int | float) -> str:
    """Return a measured value with the precision of a printed figure: 356598280 printed like '557M' is '357M'.

    Halves round away from zero. For a figure such as '10^17' the value becomes the nearest power of ten.

    Raises:
        InputError: the figure is not one plain number ('>91K', '(16, 24, 2)'), or the measured value is not finite.
    """
    # NaN and infinity round to themselves, and would never agree, without anybody seeing why.
    if not math.isfinite(measured):
        raise InputError(f"measured value is {measured!r}; allowed: finite numbers")
    if re.fullmatch(r"10\^\d+", figure):
        if measured <= 0:
            raise InputError(f"measured value is {measured!r}; allowed for {figure!r}: positive numbers")
        return f"10^{round(math.log10(measured))}"
    match = _FIGURE.fullmatch(figure)
    if match is None:
        raise InputError(f"figure {figure!r} is not one plain number, so no measured value compares with it")
    sign, digits, scale = match.groups()
    # Decimals, not floats: 0.15 as a float is below 0.15, and would round down.
    unit = Decimal(1).scaleb(-len(digits.partition(".")[2]))
    rounded = Decimal(str(measured)).scaleb(-_SCALES[scale]).quantize(unit, ROUND_HALF_UP) + 0  # + 0 turns -0 into 0
    return f"{rounded:{'+' if sign else ''}f}{scale}"


def agrees(figure: str, measured: int | float) -> bool:
    """Whether a measured value equals a printed figure after it is rounded to the digits of the figure."""
    return round_like(figure, measured) == figure


def _item(data: Any, where: str) -> Item:
    """Return a table or figure with all of its numbers."""
    if isinstance(data, dict):
        where = f"{where} ({data.get('id')})"
    keys = check_keys(data, _ItemKeys, where)
    texts = {key: keys.pop(key) for key in ("id", "title", "section", "note") if key in keys}
    for key, value in texts.items():
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {key} is {value!r}; allowed: a non-empty text")
    columns = read_records(keys.get("columns", []), _Column, f"{where}: columns")
    rows = read_records(keys.get("rows", []), _Row, f"{where}: rows")
    numbers = read_records(keys.get("numbers", []), Number, f"{where}: numbers")
    # The printed grid comes first, then the numbers of caption and text.
    found = (*_grid(columns, rows, where), *numbers)
    # Answers refer to numbers by id. Two numbers of one id could not be told from each other.
    for number_id, count in Counter(number.id for number in found).items():
        row, _, column = number_id.partition(".")
        if count > 1 or not _ID.fullmatch(row) or not _ID.fullmatch(column):
            raise InputError(
                f"{where}: id {number_id!r} is given {count} time(s); allowed: once, as row.column in a-z, 0-9 and _"
            )
    return Item(numbers=found, **{"note": "", **texts})


def _grid(columns: list[_Column], rows: list[_Row], where: str) -> list[Number]:
    """Return the numbers of a printed table."""
    numbers = []
    for i, row in enumerate(rows, 1):
        if len(row.values) != len(columns):
            raise InputError(
                f"{where}: row {row.id!r} has {len(row.values)} values; allowed: {len(columns)}, one per column"
            )
        for column, value in zip(columns, row.values, strict=True):
            if value != "-":  # a cell that the paper leaves empty
                label, place = f"{row.name}: {column.name}", f"row {i}, column {column.name}"
                numbers.append(Number(f"{row.id}.{column.id}", label, value, column.unit, place))
    return numbers
