"""What the commands share: options, completion, tables, progress."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fbnetv3.errors import InputError
from fbnetv3.progress import Report, show_progress
from fbnetv3.schema import dump_json

Row = dict[str, Any]
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LOGS = "logs"  # folder of trackers in that of a training or a search
Log = Annotated[
    str,
    typer.Option(
        help="Also log with these, separated by commas: csv, tensorboard, mlflow, wandb. Their files are in the folder "
        "`logs` in --out.",
        rich_help_panel="Output",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
ON_BAD_IMAGE = (
    "Images that cannot be read: skip (leave them out, name and count them) or fail (end with the first one)."
)
DEVICE = "Device to compute on: auto (a GPU if there is one), cpu, cuda or cuda:N."
# A pipe has no width: tables are not folded there, so that lines can be searched.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
err = Console(stderr=True)


def finite(value: float | None) -> float | None:
    """Refuse NaN and infinity as the value of an option. The bounds of an option do not: NaN is not below them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number that can be used here.")
    return value


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


def say(text: str, where: Console = out) -> None:
    """Print a line as it is: rich would read a folder named [b] as markup."""
    where.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_device(work: str, device: str, precision: str = "fp32", *facts: str) -> None:
    """Say on stderr what is computed on a GPU, on which, and with which settings. Of the CPU nothing is said."""
    from fbnetv3.device import device_words  # late: torch is imported by the commands that need it

    if device != "cpu":
        say(f"{work} on {', '.join((device_words(device), precision, *facts))}", err)


def print_rows(rows: list[Row], as_json: bool) -> None:
    """Print rows with equal keys as a table or as JSON."""
    if as_json:
        print(dump_json(rows))
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, justify="right" if isinstance(rows[0][key], int | float) else "left", overflow="fold")
    for row in rows:
        # Text, because rich would read a class or file named [b] as markup, and :cat: as a sign.
        table.add_row(*(Text("-" if value is None else str(value)) for value in row.values()))
    out.print(table)


def need_images(images: Sequence[Path]) -> None:
    """Check that one of the images can be read: a slip must not end in a download and a long wait.

    Raises:
        InputError: none of them can be read; there is a line for each.
    """
    from fbnetv3.transforms import open_upright

    errors = []
    for image in images:
        try:
            open_upright(image)
            return
        except InputError as error:
            errors.append(str(error))
    _raise_all(errors)


def print_each(files: Sequence[T], rows_of: Callable[[T], list[Row]], as_json: bool) -> None:
    """Print the rows of all files that have some, and then a line for every file with an error.

    Raises:
        InputError: a file has an error: the last of these lines.
    """
    rows: list[Row] = []
    errors: list[str] = []
    for file in files:
        try:
            rows += rows_of(file)
        except InputError as error:
            errors.append(str(error))
    if rows:
        print_rows(rows, as_json)
    _raise_all(errors)


def _raise_all(errors: list[str]) -> None:
    """Print all errors but the last, and raise that, which the command prints in the same way."""
    lines = list(dict.fromkeys(errors))  # what is wrong with all files is said once
    for line in lines[:-1]:
        print(f"fbnetv3: {line}", file=sys.stderr)
    if lines:
        raise InputError(lines[-1])
