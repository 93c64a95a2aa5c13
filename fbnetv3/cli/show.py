"""What the commands share: options, tables, progress."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
# A pipe has no width: tables are not folded there, so that lines can be searched.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
err = Console(stderr=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, lines elsewhere; Ctrl-C ends the command in one line, with exit code 130."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        if not err.is_terminal:
            yield _ProgressLines()
        else:
            with Progress(*columns, console=err) as bar:
                task = bar.add_task("starting", total=None)
                yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
    except KeyboardInterrupt:
        print("fbnetv3: stopped; what was finished is kept, resume to go on", file=sys.stderr)
        raise typer.Exit(130) from None


class _ProgressLines:
    """One line whenever the text changes, the running loss left out."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, done: int, total: int, text: str) -> None:
        head = text.split(", loss")[0]
        if head != self.last:
            print(f"[{done}/{total}] {head}", file=sys.stderr, flush=True)
            self.last = head


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table, a row a dict of equal keys, or the same as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, justify="right" if isinstance(rows[0][key], int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    out.print(table)
