"""The progress of many trainings, one after the other: a bar, and where there is no terminal to draw it on, lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fbnetv3.training.loop import Progress as Report


@dataclass(frozen=True, eq=False)
class TrainingBar:
    """One bar for all trainings."""

    bar: Progress
    task: TaskID

    def training(self, label: str) -> Report:
        """What the training called `label` reports its progress to."""
        last = ""

        def report(done: int, total: int, text: str) -> None:
            nonlocal last
            self.bar.update(self.task, completed=done, total=total, description=f"{label}: {text}")
            epoch = text.partition(",")[0]
            if epoch != last and not self.bar.console.is_terminal:
                self.bar.console.print(f"{label}: {epoch}", markup=False)
            last = epoch

        return report

    def other(self, text: str) -> None:
        """Something else goes on, for nobody knows how long."""
        self.bar.update(self.task, completed=0, total=None, description=text)


@contextlib.contextmanager
def training_bar(console: Console, text: str) -> Iterator[TrainingBar]:
    """The bar, on `console`, which says `text` until the first training reports."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        yield TrainingBar(bar, bar.add_task(text, total=None))
