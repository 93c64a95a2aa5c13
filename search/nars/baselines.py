"""What NARS is compared with: random search, Optuna's TPE, and regularised evolution.

They make as many trainings of the same length as NARS. TPE and evolution propose in batches of the size of NARS's batches,
because as many workers train at a time, unless their settings say otherwise. All proposals are different and feasible
before they are trained. Like NARS, the baselines are functions of the configuration and of the trials in the ledger, so that
resuming is the same call again. They answer with their best trial.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.acquisition import first_batch
from fbnetv3.search.nars.batches import Batch, BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import one_change
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.trial import Trial

TOURNAMENTS = 1000  # at most, for one child
ASKS = 50  # proposals of TPE for one training, at most, before a random feasible candidate is taken instead


def random_search(context: Context, runner: BatchRunner) -> Proposal:
    """Train random feasible candidates, as many as NARS trains, and answer with the best one."""
    config = context.config
    total = config.trainings
    seed = context.trial_seed(0, 1)  # NARS draws another pool, with this seed or any other
    pool = context.constraints.sample(max(config.pool, total), seed)
    rows = pool[first_batch(len(pool), total, seed)]
    best = context.best_trial(runner.run(Batch(1, rows, context.base.epochs)))
    return Proposal(tuple(best.candidate), None, best.epochs)


@dataclass(frozen=True)
class TpeSettings:
    """Settings of TPE. The defaults are the best of those that were tried, see docs/search.md."""

    startup: int = 10  # random feasible trials first; 0: as many as a batch of NARS
    multivariate: bool = True
    # Whether TPE learns how far its infeasible proposals are from feasible ones. Otherwise it is only asked again.
    learn_constraints: bool = False
    batch: int = 0  # proposals before it sees new results; 0: as many as a batch of NARS


@dataclass(frozen=True)
class RegularisedEvolutionSettings:
    """Settings of regularised evolution, as shares of all trainings. Its paper has 100 and 25 for 20,000 trainings."""

    population: float = 0.15  # share of all trainings; the first ones are random, later the youngest ones count
    sample: float = 0.5  # share of the population in a tournament
    batch: int = 0  # children before it sees new results; 0: as many as a batch of NARS


class Proposer(Protocol):
    """Proposes candidates from the trials so far."""

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """Return `n` different feasible index rows [n, d]. It is called with all trials, in order, before every batch."""


def tpe(context: Context, runner: BatchRunner, settings: TpeSettings | None = None) -> Proposal:
    """Search with tree-structured Parzen estimators (Optuna, which the extra `compare` installs).

    Infeasible proposals cost no training. TPE is told that they failed, and asked again.

    Raises:
        InputError: Optuna is missing.
    """
    settings = settings or TpeSettings()
    proposer = _Tpe(context, settings)
    return _search(context, runner, proposer, settings.batch, proposer.startup)


def regularised_evolution(
    context: Context, runner: BatchRunner, settings: RegularisedEvolutionSettings | None = None
) -> Proposal:
    """Search with regularised evolution (Real et al., 2019).

    The best candidate of a random sample of the population has a child, which differs in one coordinate. The oldest
    candidate leaves the population.
    """
    settings = settings or RegularisedEvolutionSettings()
    evolution = _Evolution(context, settings)
    return _search(context, runner, evolution, settings.batch, evolution.population)


def _search(context: Context, runner: BatchRunner, proposer: Proposer, batch: int, first: int) -> Proposal:
    """Propose and train batch by batch until there are as many trainings as NARS makes.

    Args:
        batch: size of a batch; 0 for NARS's.
        first: size of the first batch; 0 for NARS's.
    """
    config, trials, round = context.config, list[Trial](), 0
    # Raises if there are too few feasible candidates: a proposer could look for a new one for ever.
    context.constraints.sample(config.trainings, config.seed)
    while len(trials) < config.trainings:
        round += 1
        size = (batch if round > 1 else first) or config.batch
        rows = proposer.propose(trials, min(size, config.trainings - len(trials)))
        trials += runner.run(Batch(round, rows, context.base.epochs))
    best = context.best_trial(trials)
    return Proposal(tuple(best.candidate), None, best.epochs)


class _Tpe:
    """A study of Optuna. Every search makes a new one, which proposes the same for the same trials."""

    def __init__(self, context: Context, settings: TpeSettings) -> None:
        self.optuna = optuna = _optuna()
        optuna.logging.set_verbosity(logging.WARNING)
        self.context, self.settings = context, settings
        # Optuna knows index rows, with the coordinates' numbers as names.
        self.distributions = {
            f"{j}": optuna.distributions.IntDistribution(0, len(c.values) - 1)
            if c.ordered
            else optuna.distributions.CategoricalDistribution(list(range(len(c.values))))
            for j, c in enumerate(context.space.coordinates)
        }
        self.seed = seed = context.trial_seed(0, 2)
        # The random trials are drawn here, inside the constraints, so Optuna draws as few as it can.
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=1, multivariate=settings.multivariate, constant_liar=True, seed=seed
        )
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.rng = np.random.default_rng(seed)
        self.startup = settings.startup or context.config.batch
        self.waiting: list[Any] = []  # Optuna's trials of the last batch
        self.seen: set[tuple[int, ...]] = set()

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """Tell the results of the last batch in its order, and ask for the next batch."""
        for asked, trial in zip(self.waiting, trials[len(trials) - len(self.waiting) :], strict=True):
            self.study.tell(asked, self.context.label(trial, trial.epochs))
        self.waiting = []
        if not trials:
            return np.array([self._ask(row) for row in self.context.constraints.sample(n, self.seed).tolist()])
        return np.array([self._ask() for _ in range(n)])

    def _ask(self, row: list[int] | None = None) -> list[int]:
        """Return the given row, or what TPE proposes; where that is never new and feasible, a random row."""
        for _ in range(0 if row else ASKS):
            trial, proposed, excess = self._trial()
            if excess == 0.0 and tuple(proposed) not in self.seen:
                break
            if excess > 0.0 and self.settings.learn_constraints:
                # The value does not matter: the sampler ranks infeasible trials by their excess.
                self.study.tell(trial, 0.0)
            else:
                self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        else:
            row = row or next(r for r in self._feasible() if tuple(r) not in self.seen)
            self.study.enqueue_trial({name: row[j] for j, name in enumerate(self.distributions)})
            trial, proposed, _ = self._trial()
        self.waiting.append(trial)
        self.seen.add(tuple(proposed))
        return proposed

    def _trial(self) -> tuple[Any, list[int], float]:
        """Return what TPE proposes: its trial, the index row, and how far the row is from being feasible."""
        trial = self.study.ask(self.distributions)
        index = self.context.space.canonical(np.array([[int(trial.params[name]) for name in self.distributions]]))
        excess = float(self.context.constraints.excess(index)[0])
        trial.set_constraint("excess", excess)
        return trial, index[0].tolist(), excess

    def _feasible(self) -> Iterator[list[int]]:
        while True:
            yield from self.context.constraints.draw(64, self.rng).tolist()


def _optuna() -> Any:
    """Return the package Optuna, which is an extra."""
    try:
        return importlib.import_module("optuna")
    except ImportError:
        raise InputError("TPE needs Optuna: pip install 'fbnetv3[compare]'") from None


class _Evolution:
    """Population and tournaments. The trials, in order, are the history."""

    def __init__(self, context: Context, settings: RegularisedEvolutionSettings) -> None:
        self.context = context
        self.population = max(round(settings.population * context.config.trainings), 2)
        self.sample = max(round(settings.sample * self.population), 2)
        self.rng = np.random.default_rng(context.trial_seed(0, 3))

    def propose(self, trials: Sequence[Trial], n: int) -> IntMatrix:
        """Return a random population first, and children afterwards."""
        if not trials:
            return self.context.constraints.sample(n, self.context.trial_seed(0, 3))
        alive = trials[-self.population :]
        seen = {tuple(t.candidate) for t in trials}
        rows: list[list[int]] = []
        for _ in range(n):
            rows.append(self._child(alive, seen))
            seen.add(tuple(rows[-1]))
        return np.array(rows)

    def _child(self, alive: Sequence[Trial], seen: set[tuple[int, ...]]) -> list[int]:
        """Return a new row that differs from the winner of a tournament in one coordinate.

        The coordinate is drawn first and its value second, so that coordinates with many values do not change more often. If
        the winner has no new feasible neighbour, another tournament is held.
        """
        space, constraints = self.context.space, self.context.constraints
        for _ in range(TOURNAMENTS):
            drawn = self.rng.choice(len(alive), min(self.sample, len(alive)), replace=False)
            parent = np.array(self.context.best_trial([alive[i] for i in drawn]).candidate)
            rows = one_change(space, parent)
            rows = rows[constraints.satisfied(rows) & (rows != parent).any(axis=1)]
            rows = np.array([row for row in np.unique(rows, axis=0).tolist() if tuple(row) not in seen])
            if len(rows):
                coordinates = (rows != parent).argmax(axis=1)
                chosen = rows[coordinates == self.rng.choice(np.unique(coordinates))]
                child: list[int] = chosen[self.rng.integers(len(chosen))].tolist()
                return child
            # All neighbours of the whole population may have been tried: sometimes look further away.
            if self.rng.random() < 0.1:
                fresh = [r for r in constraints.draw(64, self.rng).tolist() if tuple(r) not in seen]
                if fresh:
                    return list(fresh[0])
        raise InputError(
            f"{TOURNAMENTS} tournaments and random draws found no new feasible candidate; give fewer trainings or wider "
            "constraints"
        )
