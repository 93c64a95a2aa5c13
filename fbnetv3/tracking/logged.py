"""Which rows were logged with a library that can take none back, so that none is logged twice."""

from __future__ import annotations

import secrets
from pathlib import Path

from fbnetv3.files import make_folder, write_atomically


class Logged:
    """A text file: the name of a run in its first line, then a line for every row that was logged."""

    def __init__(self, path: Path) -> None:
        """Read the file, or start it with a new name. A line that a crash cut off is removed."""
        make_folder(path.parent)
        self.path = path
        text = path.read_text() if path.is_file() else ""
        self.run, *rows = text[: text.rfind("\n") + 1].splitlines() or [secrets.token_hex(4)]
        self._rows = set(rows)
        write_atomically(path, "".join(f"{line}\n" for line in (self.run, *rows)))

    def __contains__(self, row: tuple[str, int]) -> bool:
        return self._line(*row) in self._rows

    def add(self, table: str, number: int) -> None:
        """Note that a row was logged."""
        line = self._line(table, number)
        self._rows.add(line)
        with self.path.open("a") as file:
            file.write(line + "\n")

    @staticmethod
    def _line(table: str, number: int) -> str:
        return f"{table} {number}"
