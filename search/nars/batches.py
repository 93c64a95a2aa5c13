"""The trainings of one round: which of them the ledger has, which are missing, and the runner that makes these.

A resumed search makes the same calls again. Trials that the ledger holds are not trained again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fbnetv3.errors import InputError, quote
from fbnetv3.progress import Report
from fbnetv3.search.execution.executor import Executor, Job
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context, trial_seed
from fbnetv3.search.nars.rounds import round_sizes
from fbnetv3.search.space.space import Floats, IntMatrix, SearchSpace
from fbnetv3.search.trial import REPEATS, Fault, Ledger, Outcome, Planned, Stop, Trial, completed, evaluated


@dataclass(frozen=True, eq=False)
class Batch:
    """The candidates of one round.

    Attributes:
        round: from 1; `REPEATS` for candidates of round 1 that are trained a second time.
        rows: their index rows [n, d].
        epochs: length of their trainings.
        predicted: mean and std of their predicted accuracy [2, n]; None where no predictor chose them.
        stop: ends trainings early; None: all of them train for all epochs.
        name: what is reported of it is under this name; by default, that is the number of its round.
    """

    round: int
    rows: IntMatrix
    epochs: int
    predicted: Floats | None = None
    stop: Stop | None = None
    name: str = ""


def recorded(batch: Batch, trials: Sequence[Trial], ledger: str, planned: Sequence[Planned] = ()) -> dict[int, Trial]:
    """Return the trials of a batch that the ledger has, by index.

    A failed trial counts as missing, so that it is repeated, as long as no later round depends on it.

    Raises:
        InputError: a trial at this place is of another candidate or another length; the message names `ledger`.
    """
    final = any(known.round > batch.round for known in (*trials, *planned))
    found = {t.index: t for t in trials if t.round == batch.round and (final or t.status != "failed")}
    for i, row in enumerate(batch.rows.tolist()):
        if i in found and (found[i].candidate, found[i].epochs) != (row, batch.epochs):
            raise other_trial(ledger, found[i])
    return found


def other_trial(ledger: str, trial: Trial) -> InputError:
    """Return the error for a recorded trial that is not the one which the search makes at its place."""
    return InputError(
        f"{ledger}: trial {trial.index} of round {trial.round} is not the one that this search makes; it was made with "
        "other versions of fbnetv3, torch or numpy, or the file was edited: start in another folder"
    )


def foreign_trial(config: SearchConfig, space: SearchSpace, method: str) -> Fault:
    """Return the check of the trials in a ledger: why one cannot be a trial of this search, or nothing if it can.

    It needs no trainings and no recipe. Whether a candidate is the one that the search proposes, only the search itself knows.

    Args:
        method: `nars` or `random`. Another method may have up to `config.trainings` rounds of any size.
    """
    # Number of trainings by round.
    sizes = dict.fromkeys(range(1, config.trainings + 1), config.trainings)
    if method in ("nars", "random"):
        sizes = round_sizes(config, method)
    values = space.sizes.tolist()

    def fault(trial: Planned) -> str:
        what = f"trial {trial.index} of round {trial.round}"
        if trial.index >= sizes.get(trial.round, 0):
            return f"{what} is none of this search, which has {sizes.get(trial.round, 0)} in this round"
        row = trial.candidate
        if len(row) != len(values) or any(i >= n for i, n in zip(row, values, strict=True)):
            # A search of an earlier version has no copy of its space, which may have been changed since.
            changed = "" if config.contents else f", unless {config.space} was changed: restore that"
            return f"{what} has the candidate {quote(row)}, which is no index row of the space {space.name}{changed}"
        seed = trial_seed(config.seed, trial.round, trial.index + _reserved(trial.round))
        return "" if trial.seed == seed else f"{what} has the seed {trial.seed}, and this search gives it {seed}"

    return fault


def _reserved(round: int) -> int:
    """Return the number of seeds of a round that no trial has."""
    # Round 0 has the repeats, but its first two seeds belong to the final training and to the pool of random search.
    return 2 if round == REPEATS else 0


def plan(context: Context, batch: Batch, first: int = 0) -> list[Planned]:
    """Return the trainings of a batch.

    Args:
        first: index in the round of its first row.
    """
    costs, convention = context.space.cost(batch.rows), context.config.constraint.convention
    flops, params = costs.flops(convention).tolist(), costs.params().tolist()
    predicted = [None] * len(batch.rows) if batch.predicted is None else batch.predicted.T.tolist()
    return [
        Planned(
            round=batch.round,
            index=first + i,
            candidate=row,
            seed=context.trial_seed(batch.round, first + i + _reserved(batch.round)),
            epochs=batch.epochs,
            flops=flops[i],
            params=params[i],
            predicted=predicted[i],
        )
        for i, row in enumerate(batch.rows.tolist())
    ]


def job_of(context: Context, planned: Planned, stop: Stop | None = None) -> Job:
    """Return what the executor is given for a training; see `Batch.stop`."""
    candidate = context.space.candidate(planned.candidate, context.base, "candidate")
    return Job(candidate, planned.epochs, planned.seed, stop)


def trial_of(planned: Planned, outcome: Outcome) -> Trial:
    """Return the trial of a training that has ended."""
    return Trial(
        **dataclasses.asdict(planned),
        acc1=list(outcome.acc1),
        status=outcome.status,
        seconds=outcome.seconds,
        error=outcome.error,
        stopped=outcome.status == "ok" and len(outcome.acc1) < planned.epochs,
        test_acc1=list(outcome.test_acc1),
    )


def nobody_hears(trial: Trial) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class BatchRunner:
    """Trains the batches of a search: takes recorded trials from the ledger, and trains and records the missing ones."""

    context: Context
    ledger: Ledger
    executor: Executor
    progress: Report
    replayed: Sequence[Trial] = ()  # trials of a search that is made again with another ledger
    on_trial: Callable[[Trial], None] = nobody_hears  # called with every trial that was written to the ledger

    @property
    def known(self) -> list[Trial]:
        """The trials after round 1 that were made already: they say how long trainings are in a search that goes on."""
        return [trial for trial in (*self.ledger.trials, *self.replayed) if trial.round > 1]

    def run(self, batch: Batch) -> list[Trial]:
        """Return the trials of a batch, in the order of its rows.

        Raises:
            InputError: the ledger belongs to another search, or all trainings of the batch failed.
        """
        trials, trainings = self._recorded(batch), plan(self.context, batch)
        name = batch.name or f"round {batch.round}"
        self.report(name, len(trials), len(trainings))
        jobs = {
            i: job_of(self.context, training, batch.stop) for i, training in enumerate(trainings) if i not in trials
        }
        for i, outcome in self.executor.run(jobs):
            trials[i] = trial_of(trainings[i], outcome)
            self.record(trials[i])
            self.report(name, len(trials), len(trainings))
        # Repeats only measure the noise, so the search can do without them.
        if batch.round != REPEATS and not evaluated(list(trials.values())):
            raise InputError(
                f"all {len(batch.rows)} trainings of round {batch.round} failed, {trials[0].error}; fix the cause, and resume"
            )
        return [trials[i] for i in range(len(batch.rows))]

    def record(self, trial: Trial) -> None:
        """Write a trial to the ledger, and tell it."""
        self.ledger.append(trial)
        self.on_trial(trial)

    def _recorded(self, batch: Batch) -> dict[int, Trial]:
        return recorded(batch, self.ledger.trials, str(self.ledger.path), self.ledger.planned)

    def report(self, name: str, done: int, total: int) -> None:
        """Say how many of the candidates of a round, or of another part of the search, were trained."""
        trials = self.ledger.trials
        accuracies = [self.context.label(t, t.epochs) for t in completed(trials)]
        best = f", best so far {max(accuracies):.1f}%" if accuracies else ""
        self.progress(len(trials), self.context.config.trainings, f"{name}: {done} of {total} candidates trained{best}")
