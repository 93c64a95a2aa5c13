"""Tables of results, declared once: a command prints them on a terminal, and a page of the documentation holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rich.table
from rich.text import Text

Format = str | Callable[[Any], str]
"""How a cell is made of a row: a format string such as "{mean:.2f}" or "{ema[AP]:.1f}", or a function of the row."""


@dataclass(frozen=True)
class Table:
    """Columns and rows of text. Backticks mark code in Markdown and are left out on a terminal."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, columns: Mapping[str, Format], rows: Iterable[Mapping[str, Any]]) -> Table:
        """Return the table whose cell in a row is that row in the format of the column.

        Args:
            columns: the format of every column by its heading.
            rows: the values of every row by name.
        """
        return cls(
            tuple(columns),
            tuple(
                tuple(form.format_map(row) if isinstance(form, str) else form(row) for form in columns.values())
                for row in rows
            ),
        )

    def markdown(self) -> str:
        """Return the lines of the table in Markdown."""
        lines = (self.columns, ("---",) * len(self.columns), *self.rows)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def rich(self, title: str = "") -> rich.table.Table:
        """Return the table as rich prints it on a terminal."""
        table = rich.table.Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for column in self.columns:
            # Folded and never cut: half a number is worse than a second line.
            table.add_column(column.replace("`", ""), overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell.replace("`", "")) for cell in row))  # Text: a cell is never read as markup
        return table


def number(value: float) -> str:
    """Return a number with five digits, and a large one as a whole number with commas: "0.99958" or "1,000,000"."""
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def amount(count: float) -> str:
    """Return a count with three digits and its unit: 4130000 is "4.13M"."""
    # Powers of 1,000 in the letters of the paper's tables.
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def decimals(value: float | None, form: str = ".2f") -> str:
    """Return a number in the given format, or "-" where there is none."""
    return "-" if value is None else f"{value:{form}}"


def difference(row: Mapping[str, float]) -> str:
    """Return a mean difference and its interval with signs: "+0.28 (+0.17 to +0.38)"."""
    return f"{row['mean']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def ratio(row: Mapping[str, float]) -> str:
    """Return a ratio and its interval: "1.63 [1.60, 1.66]"."""
    return f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def duration(seconds: float) -> str:
    """Return a time with two digits, in microseconds below a millisecond: "0.24 µs" or "1.5 s"."""
    return f"{seconds * 1e6:.2g} µs" if seconds < 1e-3 else f"{seconds:.2g} s"
