"""How long work reports its progress, and how a command shows it.

Work calls a function of the type `Report`: what is done, what there is in all, and a few words. A command shows this as a bar
on a terminal and as lines elsewhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

BAR = 20  # columns, which leave room for the words
Report = Callable[[int, int, str], None]


def silent(done: int, total: int, text: str) -> None:
    """Report nothing."""


def labelled(report: Report, label: str) -> Report:
    """Return a function that reports with `label` before the words."""
    return lambda done, total, text: report(done, total, f"{label}: {text}")


def part_of(report: Report, before: int, size: int, total: int) -> Report:
    """Return a function for a part of larger work: it moves what is done from `before` to `before + size`, of `total`."""
    return lambda done, of, text: report(before + size * done // max(of, 1), total, text)


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
    words = (TextColumn("{task.fields[left]}"), TextColumn("{task.description}", markup=False))
    left = _TimeLeft()
    with Progress(BarColumn(BAR), MofNCompleteColumn(), TimeElapsedColumn(), *words, console=console) as bar:
        task = bar.add_task("starting", total=None, left="")
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=text, left=left(done, total)
        )


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


class _TimeLeft:
    """Says how long work still takes at its speed since the first report. What was done before it may have been resumed.

    rich's own estimate looks at the last seconds alone: it knows no evaluation between epochs, and no trainings of minutes.
    """

    def __init__(self) -> None:
        self.total, self.first, self.began = -1, 0, 0.0

    def __call__(self, done: int, total: int) -> str:
        now = time.monotonic()
        if total != self.total or done < self.first:  # other work begins
            self.total, self.first, self.began = total, done, now
        if done == self.first:
            return ""
        seconds = (now - self.began) / (done - self.first) * (total - done)
        return f"{timedelta(seconds=round(seconds))} left"


class _Lines:
    """Prints a line whenever the text changes, apart from the running loss."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, ""

    def __call__(self, done: int, total: int, text: str) -> None:
        head = text.split(", loss")[0]
        if head != self.last:
            self.console.print(f"[{done}/{total}] {head}", markup=False, highlight=False, soft_wrap=True)
            self.last = head
