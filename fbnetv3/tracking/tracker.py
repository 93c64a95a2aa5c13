"""A tracker: a callback that turns what it is told into rows of numbers, and logs them with a library.

The rows are in tables: `steps` and `epochs` of a training, and the trainings of a search in `nars` and `random`. A row's number
is that of the step, the epoch or the trial.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fbnetv3.errors import InputError
from fbnetv3.training.callbacks import Callback, StepMetrics, TrialMetrics
from fbnetv3.training.checkpoint import EpochMetrics

EVERY = 10  # one of so many steps is logged
STEPS, EPOCHS = "steps", "epochs"

logger = logging.getLogger(__name__)


class Log(Protocol):
    """Where rows are logged: one for each library."""

    def begin(self, table: str, done: int) -> None:
        """Make ready for the rows of a table after number `done`.

        Some of them may have been logged before a training or search was stopped. They come again. A log replaces the rows
        that it has, or leaves out the new ones.
        """
        ...

    def write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Log a row, so that it outlives this process. A value is a number, a text, or None where there is none."""
        ...

    def close(self) -> None:
        """End the log. It is called once."""
        ...


class Tracker(Callback):
    """Logs all trainings and searches that it follows.

    The log is opened when the first one starts, because a mistake in its settings must leave no files. A log that fails later
    is left out with a warning: hours of training are worth more.
    """

    def __init__(self, name: str, open_log: Callable[[], Log]) -> None:
        self.name, self._open, self._failed = name, open_log, False
        self._log: Log | None = None

    def on_training(self, steps: int, epochs: Sequence[EpochMetrics]) -> None:
        """Log the epochs that were trained before; with what was logged then, no epoch is there twice."""
        self._begin(STEPS, steps)
        self._begin(EPOCHS, 0)
        for metrics in epochs:
            self.on_epoch(metrics)

    def on_step(self, metrics: StepMetrics) -> None:
        """Log every tenth step."""
        if metrics.step % EVERY == 0:
            kept = ("epoch", "lr", "loss", "images_per_second")
            self._write(STEPS, metrics.step, {name: getattr(metrics, name) for name in kept})

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Log an epoch."""
        row = dataclasses.asdict(metrics)
        self._write(EPOCHS, row.pop("epoch"), row)

    def on_search(self, method: str, trials: Sequence[TrialMetrics]) -> None:
        """Log the trainings of the ledger; with what was logged before, none is there twice."""
        self._begin(method, 0)
        for metrics in trials:
            self.on_trial(metrics)

    def on_trial(self, metrics: TrialMetrics) -> None:
        """Log a training that has not failed: a failed one says nothing, and may be made again."""
        if metrics.status == "failed":
            return
        mean, std = metrics.predicted or (None, None)
        accuracy = {"accuracy": metrics.acc1[-1] if metrics.acc1 else None, "best": metrics.best}
        kept = ("flops", "params", "seconds", "status", "round", "index")
        row = accuracy | {"predicted": mean, "deviation": std, "epochs": len(metrics.acc1)}
        row |= {name: getattr(metrics, name) for name in kept}
        self._write(metrics.method, metrics.number, row | {f"value.{key}": v for key, v in metrics.values.items()})

    def close(self) -> None:
        """End the log."""
        if self._log is not None:
            log, self._log = self._log, None
            self._guard(log.close)

    def _begin(self, table: str, done: int) -> None:
        if self._failed:
            return
        try:
            self._log = self._log or self._open()
            self._log.begin(table, done)
        except InputError:
            raise
        except Exception as error:  # whatever a library raises
            raise InputError(
                f"{self.name} cannot log: {error}; remove the cause, or log without {self.name}"
            ) from error

    def _write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        if self._log is not None:
            log = self._log
            self._guard(lambda: log.write(table, number, row))

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a library raises
            self._log, self._failed = None, True
            logger.warning("the work goes on, but %s logs nothing more: %s", self.name, error)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a row that are numbers, for libraries that take nothing else."""
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
