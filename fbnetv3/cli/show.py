"""What the commands share: options, completion, tables, progress."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fbnetv3.progress import Report, show_progress

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
# A pipe has no width: tables are not folded there, so that lines can be searched.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
err = Console(stderr=True)


def complete(module: str, function: str) -> Callable[[str], list[str]]:
    """Return what completes an option's value in the shell: the names that a function without arguments lists.

    The module is imported when somebody presses the tab key, so that the command itself starts fast.
    """

    def names(incomplete: str) -> list[str]:
        return [name for name in getattr(importlib.import_module(module), function)() if name.startswith(incomplete)]

    return names


@contextlib.contextmanager
def progress_bar() -> Iterator[Report]:
    """Yield the function that a command reports its progress to.

    Ctrl-C ends the command with one line and exit code 130.
    """
    try:
        with show_progress(err) as report:
            yield report
    except KeyboardInterrupt:
        print("fbnetv3: stopped; what was finished is kept, resume to continue", file=sys.stderr)
        raise typer.Exit(130) from None


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows with equal keys as a table or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, justify="right" if isinstance(rows[0][key], int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    out.print(table)
