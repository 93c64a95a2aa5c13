"""What people use instead of NARS, at as many trainings of the same length: Optuna's TPE, and regularised evolution.

Both propose in batches of the size of NARS's, which as many workers train at a time, unless told otherwise; all proposals
are different and inside the constraints before they are trained. Like NARS they are functions of the configuration and of
the trials in the ledger, so a resumed search is the same call again; they answer with the best trial.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import Executor
from fbnetv3.search.nars.algorithm import Context, Progress, Proposal, best_trial, train_batch
from fbnetv3.search.nars.evolve import one_change
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.trial import Ledger, Trial

if TYPE_CHECKING:
    import optuna

TOURNAMENTS = 1000  # for one child
ASKS = 50  # proposals of TPE for one training, before one is drawn at random inside the constraints


@dataclass(frozen=True)
class TpeSettings:
    """Of Optuna's sampler. The defaults are the best of those tried, see docs/search.md."""

    startup: int = 10  # random trials inside the constraints first; 0: a batch of NARS's
    multivariate: bool = True
    # It is told how far outside the constraints its other proposals are; false: it is only asked anew.
    learn_limits: bool = False
    batch: int = 0  # proposals between two looks at the results; 0: NARS's


@dataclass(frozen=True)
class EvolutionSettings:
    """Of regularised evolution. The paper has 100 and 25 for 20,000 trainings; these are shares of the trainings."""

    population: float = 0.15  # of all trainings, random ones, and then the youngest
    sample: float = 0.5  # of the population, in a tournament
    batch: int = 0  # children between two looks at the results; 0: NARS's


class Proposer(Protocol):
    """What proposes `n` different rows inside the constraints from the trials so far."""

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """Index rows [n, d]; called with all trials, in order, after every batch."""


def tpe(
    context: Context, ledger: Ledger, executor: Executor, progress: Progress, settings: TpeSettings | None = None
) -> Proposal:
    """Tree-structured Parzen estimators with constraints (Optuna; the extra `compare`).

    Proposals outside the constraints cost no training: TPE is told how far outside they are and asked again.

    Raises:
        InputError: Optuna is missing.
    """
    settings = settings or TpeSettings()
    proposer = _Tpe(context, settings)
    return _search(context, ledger, executor, progress, proposer, settings.batch, proposer.startup)


def regularised_evolution(
    context: Context,
    ledger: Ledger,
    executor: Executor,
    progress: Progress,
    settings: EvolutionSettings | None = None,
) -> Proposal:
    """Real et al. (2019): the best of a random sample of the population has a child with one change; the oldest dies."""
    settings = settings or EvolutionSettings()
    evolution = _Evolution(context, settings)
    return _search(context, ledger, executor, progress, evolution, settings.batch, evolution.population)


def _search(
    context: Context,
    ledger: Ledger,
    executor: Executor,
    progress: Progress,
    proposer: Proposer,
    batch: int,
    first: int,
) -> Proposal:
    """Propose and train batch by batch, `first` ones to begin with, until there are as many trainings as NARS makes."""
    config, trials, round = context.config, list[Trial](), 0
    context.limits.sample(config.trainings, config.seed)  # or says that there are not so many
    while len(trials) < config.trainings:
        round += 1
        size = (batch if round > 1 else first) or config.batch
        rows = proposer.propose(trials, min(size, config.trainings - len(trials)))
        trials += train_batch(context, ledger, executor, round, rows, None, context.base.epochs, progress)
    best = best_trial(context, trials)
    return Proposal(tuple(best.candidate), None, best.epochs)


class _Tpe:
    """A study that is told what the trials say; made anew for every search, and the same for the same trials."""

    def __init__(self, context: Context, settings: TpeSettings) -> None:
        try:
            import optuna
        except ImportError:
            raise InputError("TPE needs Optuna: pip install 'fbnetv3[compare]'") from None
        from optuna.samplers import TPESampler

        optuna.logging.set_verbosity(logging.WARNING)
        self.context, self.settings = context, settings
        self.coordinates = [(f"{j}", c) for j, c in enumerate(context.space.coordinates)]
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.IntDistribution(0, len(c.values) - 1)
            if c.ordered
            else optuna.distributions.CategoricalDistribution(list(range(len(c.values))))
            for name, c in self.coordinates
        }
        self.seed = seed = context.trial_seed(0, 2)
        sampler = TPESampler(
            n_startup_trials=1,
            multivariate=settings.multivariate,
            constant_liar=True,
            seed=seed,
        )
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.rng = np.random.default_rng(seed)
        self.startup = settings.startup or context.config.batch
        self.waiting: list[optuna.Trial] = []
        self.seen: set[tuple[int, ...]] = set()

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """Tell the batch before, in its order, and ask for the next."""
        for asked, trial in zip(self.waiting, trials[len(trials) - len(self.waiting) :], strict=True):
            self.study.tell(asked, self.context.label(trial, trial.epochs))
        self.waiting = []
        if not trials:
            return np.array([self._ask(row) for row in self.context.limits.sample(n, self.seed).tolist()])
        return np.array([self._ask() for _ in range(n)])

    def _ask(self, row: list[int] | None = None) -> list[int]:
        """The row given, or what TPE proposes; where that is never new and inside, a random one."""
        from optuna.trial import TrialState

        for _ in range(0 if row else ASKS):
            trial, proposed, excess = self._trial()
            if excess == 0.0 and tuple(proposed) not in self.seen:
                break
            if excess > 0.0 and self.settings.learn_limits:
                self.study.tell(trial, 0.0)  # outside: the constraint decides, whatever the accuracy
            else:
                self.study.tell(trial, state=TrialState.FAIL)
        else:
            row = row or next(r for r in self._inside() if tuple(r) not in self.seen)
            self.study.enqueue_trial({name: row[j] for j, (name, _) in enumerate(self.coordinates)})
            trial, proposed, _ = self._trial()
        self.waiting.append(trial)
        self.seen.add(tuple(proposed))
        return proposed

    def _trial(self) -> tuple[optuna.Trial, list[int], float]:
        """What TPE proposes, the index row, and how far outside the constraints it is."""
        trial = self.study.ask(self.distributions)
        index = self.context.space.canonical(np.array([[int(trial.params[name]) for name, _ in self.coordinates]]))
        excess = float(self.context.limits.excess(index)[0])
        trial.set_constraint("excess", excess)
        return trial, index[0].tolist(), excess

    def _inside(self) -> Iterator[list[int]]:
        while True:
            yield from self.context.limits.draw(64, self.rng).tolist()


class _Evolution:
    """Population and tournaments; the trials in order are the history."""

    def __init__(self, context: Context, settings: EvolutionSettings) -> None:
        self.context = context
        self.population = max(round(settings.population * context.config.trainings), 2)
        self.sample = max(round(settings.sample * self.population), 2)
        self.rng = np.random.default_rng(context.trial_seed(0, 3))

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """A random population, then children."""
        if not trials:
            return self.context.limits.sample(n, self.context.trial_seed(0, 3))
        alive = trials[-self.population :]
        seen = {tuple(t.candidate) for t in trials}
        rows: list[Any] = []
        for _ in range(n):
            rows.append(self._child(alive, seen))
            seen.add(tuple(rows[-1]))
        return np.array(rows)

    def _child(self, alive: Sequence[Trial], seen: set[tuple[int, ...]]) -> list[int]:
        """One change to the winner of a tournament, any coordinate and then any value; parents without one are passed over."""
        for _ in range(TOURNAMENTS):
            drawn = self.rng.choice(len(alive), min(self.sample, len(alive)), replace=False)
            parent = np.array(best_trial(self.context, [alive[i] for i in drawn]).candidate)
            rows = one_change(self.context.space, parent)
            rows = rows[self.context.limits.allows(rows) & (rows != parent).any(axis=1)]
            rows = np.array([row for row in np.unique(rows, axis=0).tolist() if tuple(row) not in seen])
            if len(rows):
                coordinates = (rows != parent).argmax(axis=1)
                chosen = rows[coordinates == self.rng.choice(np.unique(coordinates))]
                child: list[int] = chosen[self.rng.integers(len(chosen))].tolist()
                return child
            if self.rng.random() < 0.1:  # the neighbourhood may be exhausted: nothing near that is new
                fresh = [r for r in self.context.limits.draw(64, self.rng).tolist() if tuple(r) not in seen]
                if fresh:
                    return list(fresh[0])
        raise InputError(
            f"{TOURNAMENTS} tournaments and random draws found no new pair inside the constraints; give fewer trainings or "
            "wider constraints"
        )
