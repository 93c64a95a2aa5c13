"""The trainings of one round: which of them the ledger has, which are missing, and the runner that makes these.

A resumed search makes the same calls again. Trials that the ledger holds are not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.progress import Report
from fbnetv3.search.execution.executor import Executor, Job
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.space import Floats, IntMatrix
from fbnetv3.search.trial import REPEATS, Ledger, Outcome, Trial, evaluated


@dataclass(frozen=True, eq=False)
class Batch:
    """The candidates of one round.

    Attributes:
        round: from 1; `REPEATS` for candidates of round 1 that are trained a second time.
        rows: their index rows [n, d].
        epochs: length of their trainings.
        predicted: mean and std of their predicted accuracy [2, n]; None where no predictor chose them.
    """

    round: int
    rows: IntMatrix
    epochs: int
    predicted: Floats | None = None


def recorded(batch: Batch, trials: Sequence[Trial], ledger: str) -> dict[int, Trial]:
    """Return the trials of a batch that the ledger has, by index.

    A failed trial counts as missing, so that it is repeated, as long as no later round depends on it.

    Raises:
        InputError: a trial at this place is of another candidate or another length; the message names `ledger`.
    """
    final = any(trial.round > batch.round for trial in trials)
    found = {t.index: t for t in trials if t.round == batch.round and (final or t.status != "failed")}
    for i, row in enumerate(batch.rows.tolist()):
        if i in found and (found[i].candidate, found[i].epochs) != (row, batch.epochs):
            raise InputError(
                f"{ledger}: trial {i} of round {batch.round} is not the one that this search makes; it was made with other "
                "versions of fbnetv3, torch or numpy, or the file was edited: start in another folder"
            )
    return found


def missing_jobs(context: Context, batch: Batch, found: Mapping[int, Trial]) -> dict[int, Job]:
    """Return the trainings of a batch that are not among the `found` trials, by index."""
    # Round 0 has the repeats, but its first two seeds belong to the final training and to the pool of random search.
    reserved = 2 if batch.round == REPEATS else 0
    return {
        i: Job(
            context.space.candidate(row, context.base, "candidate"),
            batch.epochs,
            context.trial_seed(batch.round, i + reserved),
        )
        for i, row in enumerate(batch.rows.tolist())
        if i not in found
    }


@dataclass(frozen=True)
class BatchRunner:
    """Trains the batches of a search: takes recorded trials from the ledger, and trains and records the missing ones."""

    context: Context
    ledger: Ledger
    executor: Executor
    progress: Report

    def run(self, batch: Batch) -> list[Trial]:
        """Return the trials of a batch, in the order of its rows.

        Raises:
            InputError: the ledger belongs to another search, or all trainings of the batch failed.
        """
        trials = recorded(batch, self.ledger.trials, str(self.ledger.path))
        jobs = missing_jobs(self.context, batch, trials)
        costs = self.context.space.cost(batch.rows)
        convention = self.context.config.constraint.convention
        flops, params = costs.flops(convention), costs.params(convention)
        self._report(batch, len(trials))
        for i, outcome in self.executor.run(jobs):
            trials[i] = _trial(batch, i, jobs[i], int(flops[i]), int(params[i]), outcome)
            self.ledger.append(trials[i])
            self._report(batch, len(trials))
        # Repeats only measure the noise, so the search can do without them.
        if batch.round != REPEATS and not evaluated(list(trials.values())):
            raise InputError(
                f"all {len(batch.rows)} trainings of round {batch.round} failed, {trials[0].error}; fix the cause, and resume"
            )
        return [trials[i] for i in range(len(batch.rows))]

    def _report(self, batch: Batch, done: int) -> None:
        config, trials = self.context.config, self.ledger.trials
        accuracies = [self.context.label(t, t.epochs) for t in evaluated(trials)]
        best = f", best so far {max(accuracies):.1f}%" if accuracies else ""
        name = f"round {batch.round}" if batch.round <= config.rounds else "finalists"
        name = "repeats" if batch.round == REPEATS else name
        self.progress(len(trials), config.trainings, f"{name}: {done} of {len(batch.rows)} candidates trained{best}")


def _trial(batch: Batch, i: int, job: Job, flops: int, params: int, outcome: Outcome) -> Trial:
    return Trial(
        round=batch.round,
        index=i,
        candidate=batch.rows[i].tolist(),
        seed=job.seed,
        epochs=job.epochs,
        flops=flops,
        params=params,
        predicted=None if batch.predicted is None else batch.predicted[:, i].tolist(),
        acc1=list(outcome.acc1),
        status=outcome.status,
        seconds=outcome.seconds,
        error=outcome.error,
    )
