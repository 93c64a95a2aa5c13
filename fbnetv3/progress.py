"""How long work reports its progress, and how a command shows it.

Work calls a function of the type `Report`: what is done, what there is in all, and a few words. A command shows this as a bar
on a terminal and as lines elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[int, int, str], None]


def silent(done: int, total: int, text: str) -> None:
    """Report nothing."""


def labelled(report: Report, label: str) -> Report:
    """Return a function that reports with `label` before the words."""
    return lambda done, total, text: report(done, total, f"{label}: {text}")


@contextlib.contextmanager
def show_progress(console: Console | None = None) -> Iterator[Report]:
    """Yield a function that shows what is reported: a bar on a terminal, a line for every new text elsewhere.

    Args:
        console: where it is shown; by default on standard error.
    """
    # rich is imported here, because networks and the hub need torch alone.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


@contextlib.contextmanager
def count_steps(total: int, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Yield a function that is called with a few words at the beginning of each of `total` steps."""
    done = 0
    with show_progress(console) as report:

        def step(text: str) -> None:
            nonlocal done
            report(done, total, text)
            done += 1

        yield step


class _Lines:
    """Prints a line whenever the text changes, apart from the running loss."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, ""

    def __call__(self, done: int, total: int, text: str) -> None:
        head = text.split(", loss")[0]
        if head != self.last:
            self.console.print(f"[{done}/{total}] {head}", markup=False, highlight=False, soft_wrap=True)
            self.last = head
