"""What callbacks are told of the trainings of a search; see `fbnetv3.training.callbacks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fbnetv3.search.nars.context import Context
from fbnetv3.search.trial import Ledger, Trial, completed
from fbnetv3.training.callbacks import Callback, TrialMetrics


@dataclass(frozen=True)
class Told:
    """Tells callbacks of the trainings of one method, whose ledger says in which order they ended."""

    context: Context
    method: str
    ledger: Ledger
    callbacks: Sequence[Callback]

    def start(self) -> None:
        """Say that the search starts, and which trainings it has already."""
        if self.callbacks:
            trials = trial_metrics(self.context, self.method, self.ledger.trials)
            for callback in self.callbacks:
                callback.on_search(self.method, trials)

    def trial(self, trial: Trial) -> None:
        """Say that a training has ended."""
        if self.callbacks:
            trials = self.ledger.trials
            number = 1 + [known.place for known in trials].index(trial.place)
            best = _bests(self.context, trials[:number])[-1]
            metrics = _metrics(self.context, self.method, number, trial, best)
            for callback in self.callbacks:
                callback.on_trial(metrics)


def trial_metrics(context: Context, method: str, trials: Sequence[Trial]) -> list[TrialMetrics]:
    """Return what callbacks are told of the trials of a ledger, in its order."""
    pairs = zip(trials, _bests(context, trials), strict=True)
    return [_metrics(context, method, number, trial, best) for number, (trial, best) in enumerate(pairs, 1)]


def _bests(context: Context, trials: Sequence[Trial]) -> list[float | None]:
    """Return for every trial the best accuracy so far of those that were not stopped early; None before the first."""
    found, best = list[float | None](), None
    for trial in trials:
        if completed([trial]):
            accuracy = context.label(trial, trial.epochs)
            best = accuracy if best is None else max(best, accuracy)
        found.append(best)
    return found


def _metrics(context: Context, method: str, number: int, trial: Trial, best: float | None) -> TrialMetrics:
    return TrialMetrics(
        method=method,
        number=number,
        round=trial.round,
        index=trial.index,
        values=context.space.values(trial.candidate),
        flops=trial.flops,
        params=trial.params,
        predicted=None if trial.predicted is None else (trial.predicted[0], trial.predicted[1]),
        status=trial.status,
        acc1=tuple(trial.acc1),
        seconds=trial.seconds,
        best=best,
    )
