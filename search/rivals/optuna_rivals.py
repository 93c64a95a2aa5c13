"""The rivals of the package Optuna (extra `compare`): TPE and CMA-ES. Its Gaussian process is in `optuna_gp.py`.

Optuna knows index rows. A candidate is a trial of a study, named by the coordinates' numbers.
"""

from __future__ import annotations

import logging
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.rivals.packages import load_package
from fbnetv3.search.rivals.rival import Guided, Row
from fbnetv3.search.rivals.settings import ASKS, STARTUP
from fbnetv3.search.rivals.untried import Untried
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Coordinate, SearchSpace


class OptunaRival(Guided):
    """A sampler of Optuna.

    A proposal that is infeasible or was tried costs no training. The sampler is told that it failed, which teaches it nothing,
    and is asked again, up to `asks` times. Then the last proposal is moved to a new feasible candidate near it.

    Args:
        sampler: of Optuna.
        asks: see above.
    """

    def __init__(self, constraints: ConstraintSet, seed: int, startup: int, sampler: Any, asks: int) -> None:
        super().__init__(constraints, seed, startup)
        self.optuna, self.asks = load_package("optuna"), asks
        self.distributions = distributions_of(self.optuna, constraints.space)
        self.study = self.optuna.create_study(direction="maximize", sampler=sampler)
        self._numbers: dict[Row, int] = {}

    def _begin(self, row: list[int]) -> None:
        """Enter a trial that runs. No sampler is called for it, which would take its time."""
        params = {name: row[int(name)] for name in self.distributions}
        state = self.optuna.trial.TrialState.RUNNING
        trial = self.optuna.trial.create_trial(state=state, params=params, distributions=self.distributions)
        self._numbers[tuple(row)] = len(self.study.get_trials(deepcopy=False))
        self.study.add_trial(trial)

    def _propose(self) -> list[int]:
        row, trial = ask_again(self.study, self.distributions, self.untried, self.asks)
        if trial is not None:
            self._numbers[tuple(row)] = trial.number
            return row
        moved = self.untried.near(row)
        self._begin(moved)
        return moved

    def _learn(self, row: Row, accuracy: float) -> None:
        # Optuna takes nan for a failed training, too.
        failed = accuracy != accuracy
        state = self.optuna.trial.TrialState.FAIL if failed else self.optuna.trial.TrialState.COMPLETE
        self.study.tell(self._numbers.pop(row), None if failed else accuracy, state=state)


def distributions_of(optuna: ModuleType, space: SearchSpace) -> dict[str, Any]:
    """Return Optuna's distributions of index rows, by the numbers of the coordinates that have several values."""
    several = {str(j): c for j, c in enumerate(space.coordinates) if len(c.values) > 1}
    return {name: _distribution(optuna, coordinate) for name, coordinate in several.items()}


def ask_again(study: Any, distributions: dict[str, Any], untried: Untried, asks: int) -> tuple[list[int], Any | None]:
    """Return an untried feasible index row that a study proposes, and its trial; the last proposal alone if it has no such row.

    Proposals that are infeasible or were tried are told to the study as failed.

    Args:
        distributions: see `distributions_of`.
        asks: proposals at most, at least one.
    """
    space = untried.constraints.space
    proposed = np.zeros((1, len(space.coordinates)), np.int64)
    for _ in range(asks):
        trial = study.ask(distributions)
        for name, value in trial.params.items():
            proposed[0, int(name)] = value
        row: list[int] = space.canonical(proposed)[0].tolist()
        if untried.has(row):
            return row, trial
        study.tell(trial, state=load_package("optuna").trial.TrialState.FAIL)
    return row, None


def tpe(constraints: ConstraintSet, seed: int) -> OptunaRival:
    """Return tree-structured Parzen estimators, multivariate and grouped. Running trials count as bad (constant liar).

    Raises:
        InputError: Optuna is missing, or the space is a sparse table.
    """
    # The random candidates come from here, inside the constraints, so Optuna draws as few as it can.
    settings = {"n_startup_trials": 1, "multivariate": True, "group": True, "constant_liar": True}
    return OptunaRival(constraints, seed, STARTUP, make_sampler("TPESampler", seed, **settings), ASKS)


def cma_es(constraints: ConstraintSet, seed: int) -> OptunaRival:
    """Return CMA-ES.

    It begins in the middle of the ranges, and knows nothing of other candidates than its own, so one random one is enough.

    Raises:
        InputError: Optuna or the package cmaes is missing, the space is a sparse table, or it has a choice of three or more
            values, which have no order.
    """
    if reason := not_numeric(constraints.space):
        raise InputError(f"space {constraints.space.name}: {reason}; search it with another method")
    load_package("cmaes")
    return OptunaRival(constraints, seed, 1, make_sampler("CmaEsSampler", seed), ASKS)


def not_numeric(space: SearchSpace) -> str:
    """Return why CMA-ES cannot search a space, or nothing if it can. A choice of two values is as good as a number."""
    names = [c.name for c in space.coordinates if not _numeric(c)]
    return f"{names[0]} is a choice of three or more values, and CMA-ES needs numbers" if names else ""


def make_sampler(name: str, seed: int, **settings: Any) -> Any:
    """Return a sampler of Optuna by the name of its class.

    Raises:
        InputError: Optuna is missing.
    """
    optuna = load_package("optuna")
    optuna.logging.set_verbosity(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
        return getattr(optuna.samplers, name)(seed=seed, **settings)


def _numeric(coordinate: Coordinate) -> bool:
    return coordinate.ordered or len(coordinate.values) <= 2


def _distribution(optuna: ModuleType, coordinate: Coordinate) -> Any:
    values = range(len(coordinate.values))
    if _numeric(coordinate):
        return optuna.distributions.IntDistribution(values[0], values[-1])
    return optuna.distributions.CategoricalDistribution(list(values))
