"""What a training or a search tells while it runs, and to whom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fbnetv3.progress import Report
from fbnetv3.training.checkpoint import EpochMetrics
from fbnetv3.training.step_losses import StepLosses


@dataclass(frozen=True)
class StepMetrics:
    """One step of a training.

    Attributes:
        step: number of the step in the whole training, from 1.
        steps: of the whole training.
        epoch: number of its epoch, from 1.
        lr: its learning rate.
        loss: of the last step whose loss is known, in this process. On the CPU that is this step. On a GPU it may be one of the
            31 steps before; None before the first loss is known.
        mean_loss: mean of the known losses of the epoch.
        images_per_second: of the epoch so far, over all processes, without the evaluations between epochs.
    """

    step: int
    steps: int
    epoch: int
    lr: float
    loss: float | None
    mean_loss: float | None
    images_per_second: float


@dataclass(frozen=True)
class TrialMetrics:
    """One training of a search.

    Attributes:
        method: `nars`, or `random` for the random search beside it.
        number: its place among the trainings of the method in the order in which they ended, from 1. A failed training that is
            made again keeps its number.
        round, index: its place in the search.
        values: all coordinates of the candidate by name; widths as built.
        flops: in the convention of the search.
        predicted: mean and std of the accuracy when it was chosen; None where no predictor chose it.
        status: `ok`, `diverged` or `failed`; see `fbnetv3.search.trial.Outcome`.
        acc1: validation accuracy in percent after every epoch; empty unless the status is `ok`.
        best: the best accuracy of the trainings with this number or a smaller one that were not stopped early; None if there is
            none.
    """

    method: str
    number: int
    round: int
    index: int
    values: Mapping[str, Any]
    flops: int
    params: int
    predicted: tuple[float, float] | None
    status: str
    acc1: tuple[float, ...]
    seconds: float
    best: float | None


class Callback:
    """Follows trainings (`fit`) and searches (`run_search`). Override what you want to know of.

    All methods are called in the main process, in order, before what they tell of is saved in a checkpoint, or after it was
    written to the ledger. After a crash, a resumed training therefore makes and tells again what came after its last
    checkpoint. An exception ends the training; it can be resumed.
    """

    def on_training(self, steps: int, epochs: Sequence[EpochMetrics]) -> None:
        """A training starts, after so many steps and these epochs: none, unless it is resumed."""

    def on_step(self, metrics: StepMetrics) -> None:
        """A step of a training was made."""

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """An epoch of a training was measured."""

    def on_search(self, method: str, trials: Sequence[TrialMetrics]) -> None:
        """A search starts (`nars`, or `random`), with these trainings in its ledger: none, unless it is resumed."""

    def on_trial(self, metrics: TrialMetrics) -> None:
        """A training of a search has ended."""


@dataclass(eq=False)
class Listeners:
    """Those who follow a training in one process: the callbacks, and the function that progress is reported to.

    Attributes:
        steps: of an epoch.
        batch: images of a step, over all processes.
    """

    progress: Report | None
    callbacks: Sequence[Callback]
    steps: int
    epochs: int
    batch: int
    acc1: float | None = None  # of the last epoch
    began: float = field(default_factory=time.perf_counter)
    first: int = 0  # steps that were done when the time began

    def start(self, step: int, epochs: Sequence[EpochMetrics]) -> None:
        """Say how far the training is when it starts: these epochs, and so many steps of the next one."""
        done = len(epochs) * self.steps + step
        for callback in self.callbacks:
            callback.on_training(done, epochs)
        self._measure_from(done, epochs)

    def step(self, epoch: int, step: int, lr: float, losses: StepLosses) -> None:
        """Say that a step was made.

        Args:
            epoch: number of the epoch, from 0.
            step: how many of its steps are done.
        """
        if self.progress is None and not self.callbacks:
            return
        done, total = epoch * self.steps + step, self.epochs * self.steps
        mean = losses.total / losses.steps if losses.steps else None
        speed = (done - self.first) * self.batch / max(time.perf_counter() - self.began, 1e-9)
        metrics = StepMetrics(done, total, epoch + 1, lr, losses.last, mean, speed)
        for callback in self.callbacks:
            callback.on_step(metrics)
        if self.progress is not None:
            self.progress(done, total, self._words(metrics))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Say that an epoch was measured."""
        for callback in self.callbacks:
            callback.on_epoch(metrics)
        self._measure_from(metrics.epoch * self.steps, (metrics,))

    def _measure_from(self, done: int, epochs: Sequence[EpochMetrics]) -> None:
        self.first, self.began = done, time.perf_counter()
        self.acc1 = epochs[-1].acc1 if epochs else None

    def _words(self, metrics: StepMetrics) -> str:
        head = f"epoch {metrics.epoch}/{self.epochs}"
        if metrics.mean_loss is None:  # on a GPU, until the first losses are fetched
            return head
        accuracy = "" if self.acc1 is None else f", accuracy {self.acc1:.1f}%"
        speed = f"{metrics.images_per_second:,.0f} images/s"
        return f"{head}, loss {metrics.mean_loss:.3f}, lr {metrics.lr:.3g}{accuracy}, {speed}"
