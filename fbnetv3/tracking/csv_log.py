"""Rows in CSV files, one for each table, without any library: `csv/steps.csv`, `csv/epochs.csv`, `csv/nars.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.files import make_folder, write_atomically

NUMBER = "number"


class CsvLog:
    """Writes every row to its file at once. Rows that come again replace those that are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def begin(self, table: str, done: int) -> None:
        """Keep the rows up to number `done`, and remove those after it."""
        path = self._path(table)
        if not path.is_file():
            return
        # A line that a crash cut off has no line break.
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        kept = [line for line in lines[1:] if int(line.split(",", 1)[0]) <= done]
        write_atomically(path, "".join([*lines[:1], *kept]) if kept else "")

    def write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Append a row, or the first one with the names of its values."""
        path, text = self._path(table), io.StringIO()
        writer = csv.DictWriter(text, [NUMBER, *row], lineterminator="\n")
        with path.open("a") as file:
            if not file.tell():
                writer.writeheader()
            writer.writerow({NUMBER: number, **row})
            file.write(text.getvalue())

    def close(self) -> None:
        """Nothing is open."""

    def _path(self, table: str) -> Path:
        return self.folder / f"{table}.csv"


def open_log(folder: Path, about: Mapping[str, Any]) -> CsvLog:
    """Return the log in a folder. A table has no place for the settings."""
    return CsvLog(folder / "csv")
