"""Searches with a budget of epochs: NARS with its ways of early stopping, and Optuna's samplers with its pruners."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.algorithm import stage1, stage2
from fbnetv3.search.nars.batches import Batch, BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.early_stopping import trial_epochs
from fbnetv3.search.rivals.optuna_rivals import ask_again, distributions_of, make_sampler
from fbnetv3.search.rivals.packages import load_package
from fbnetv3.search.rivals.settings import STARTUP
from fbnetv3.search.rivals.untried import Untried
from fbnetv3.search.trial import Ledger, Trial, evaluated

# Proposals for one training, at most, before the last one is moved to a new candidate near it. With hundreds of trainings, TPE
# mostly proposes what was tried.
ASKS = 10


@dataclass(frozen=True)
class Ended:
    """A training that has ended.

    Attributes:
        candidate: index row.
        seed: of the training.
        epochs: how many it trained for.
        accuracy: in percent, by which the search compares it with others; None for a training that was stopped as hopeless.
    """

    candidate: tuple[int, ...]
    seed: int
    epochs: int
    accuracy: float | None


Search = Callable[[Context, int], list[Ended]]


class _SpentError(Exception):
    """The epochs of a search are used up."""


@dataclass(frozen=True)
class _BudgetedRunner(BatchRunner):
    """A runner that ends a search after the batch with which its epochs are used up."""

    epochs: int = 0

    def run(self, batch: Batch) -> list[Trial]:
        """Return the trials of a batch; see `BatchRunner.run`."""
        trials = super().run(batch)
        if sum(trial.trained for trial in self.ledger.trials) >= self.epochs:
            raise _SpentError
        return trials


def nars_search(context: Context, epochs: int) -> list[Ended]:
    """Run stages 1 and 2 of NARS until so many epochs were trained; return the trainings in their order.

    Trainings are compared by their last accuracy; with the paper's rule, by that after the epoch which it chose.
    """
    config = context.config
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "ledger.jsonl", config.fingerprint) as ledger,
        InProcess(context.evaluator()) as executor,
    ):
        with contextlib.suppress(_SpentError):
            stage2(context, stage1(context), _BudgetedRunner(context, ledger, executor, silent, epochs=epochs))
        trials = sorted(ledger.trials, key=lambda trial: trial.place)
    compared = trial_epochs(trials, config, context.base.epochs)
    return [
        Ended(tuple(t.candidate), t.seed, t.trained, None if t.stopped else context.label(t, compared))
        for t in evaluated(trials)
    ]


@dataclass(frozen=True)
class OptunaSearch:
    """A sampler of Optuna with one of its pruners, one training after the other.

    Attributes:
        guided: TPE, multivariate and grouped; otherwise all candidates are random.
        pruner: name of a class of `optuna.pruners`.
        settings: of the pruner.
    """

    guided: bool
    pruner: str = "NopPruner"
    settings: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, context: Context, epochs: int) -> list[Ended]:
        """Train until so many epochs are used up; return the trainings in their order.

        The pruner sees the accuracies of the epochs where its rungs may be: multiples of `min_resource`. No candidate is
        trained twice.

        Raises:
            InputError: Optuna is missing.
        """
        optuna, config = load_package("optuna"), context.config
        tpe = {"n_startup_trials": 1, "multivariate": True, "group": True}
        study = optuna.create_study(
            study_name=f"early stopping {config.seed}",  # Hyperband draws its brackets by the name
            direction="maximize",
            sampler=make_sampler(
                "TPESampler" if self.guided else "RandomSampler", config.seed, **(tpe if self.guided else {})
            ),
            pruner=getattr(optuna.pruners, self.pruner)(**self.settings),
        )
        ended: list[Ended] = []
        for row, trial in _asked(context, study, self.guided):
            ended.append(_trained(context, study, row, trial, len(ended), self.settings.get("min_resource", 1)))
            if sum(training.epochs for training in ended) >= epochs:
                break
        return ended


def _trained(context: Context, study: Any, row: list[int], trial: Any, number: int, step: int) -> Ended:
    """Make a training, which the study's pruner may end every `step` epochs, and tell the study how it ended."""

    def stop(acc1: Sequence[float]) -> bool:
        if len(acc1) % step:
            return False
        trial.report(acc1[-1], len(acc1))
        return bool(trial.should_prune())

    seed, length = context.trial_seed(1, number), context.base.epochs
    candidate = context.space.candidate(row, context.base, "candidate")
    acc1 = cast(Any, context.evaluator())(candidate, length, seed, stop=stop).acc1
    state = load_package("optuna").trial.TrialState
    if len(acc1) < length:
        study.tell(trial, state=state.PRUNED)
        return Ended(tuple(row), seed, len(acc1), None)
    study.tell(trial, acc1[-1], state=state.COMPLETE)
    return Ended(tuple(row), seed, length, acc1[-1])


def _asked(context: Context, study: Any, guided: bool) -> Iterator[tuple[list[int], Any]]:
    """Yield all feasible candidates, as index rows, with their trials: random ones first, then what the sampler proposes.

    What was tried or is infeasible costs nothing: the sampler is told that it failed, and is asked again, as in `OptunaRival`.
    """
    constraints = context.constraints
    distributions = distributions_of(load_package("optuna"), context.space)
    untried = Untried(constraints, np.random.default_rng(context.config.seed))
    pool = context.config.pool  # all feasible candidates of the table
    startup = STARTUP if guided else pool
    for row in constraints.sample(startup, context.config.seed).tolist():
        yield _entered(study, distributions, untried, row)
    for _ in range(pool - startup):
        row, trial = ask_again(study, distributions, untried, ASKS)
        if trial is None:
            yield _entered(study, distributions, untried, untried.near(row))
        else:
            untried.take(row)
            yield row, trial


def _entered(study: Any, distributions: Mapping[str, Any], untried: Untried, row: list[int]) -> tuple[list[int], Any]:
    """Return a candidate that the sampler did not propose, with a trial of the study."""
    untried.take(row)
    study.enqueue_trial({name: row[int(name)] for name in distributions})
    return row, study.ask(distributions)
