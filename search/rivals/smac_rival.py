"""SMAC3 (extra `smac`): Bayesian optimisation with a random forest, by its facade for hyperparameters."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.search.rivals.packages import load_package
from fbnetv3.search.rivals.rival import Guided, Row
from fbnetv3.search.rivals.settings import SMAC_CHALLENGERS, STARTUP
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Coordinate, Floats

LEAVES = 4096  # of a tree, at most; each has a training at least


class Smac(Guided):
    """SMAC3. It minimises 100 minus the accuracy in percent.

    SMAC climbs to candidates of large expected improvement, and has random ones in between. Infeasible and tried candidates
    have no improvement here, and are left out. So SMAC needs to learn nothing of them. What runs changes nothing else.

    Args:
        batch: proposals between two fits of the forest.

    Raises:
        InputError: SMAC is missing, or the space is a sparse table.
    """

    def __init__(self, constraints: ConstraintSet, seed: int, batch: int) -> None:
        super().__init__(constraints, seed, STARTUP)
        self._config_space, self._history = load_package("ConfigSpace"), load_package("smac.runhistory")
        self._exhausted = load_package("smac.main.exceptions").ConfigurationSpaceExhaustedException
        logging.getLogger("smac").setLevel(logging.ERROR)
        self.space = self._config_space.ConfigurationSpace(seed=seed)
        self.space.add([_parameter(self._config_space, j, c) for j, c in enumerate(constraints.space.coordinates)])
        self._ranges = np.array([_is_range(c) for c in constraints.space.coordinates])
        # SMAC wants to keep files. Nobody reads them here, and they are gone with this object.
        self._folder = Path(tempfile.mkdtemp(prefix="smac_"))
        weakref.finalize(self, shutil.rmtree, self._folder)
        self.facade = self._make_facade(load_package("smac"), batch)
        self._last = [0] * len(constraints.space.coordinates)

    def _make_facade(self, smac: Any, batch: int) -> Any:
        facade = smac.HyperparameterOptimizationFacade
        # The number of trials is only a limit. The search stops before.
        scenario = smac.Scenario(
            self.space, output_directory=self._folder, deterministic=True, n_trials=10**6, seed=self.seed
        )
        acquisition = facade.get_acquisition_function(scenario)
        self._improvement, acquisition._compute = acquisition._compute, self._feasible_improvement
        maximizer = facade.get_acquisition_maximizer(scenario, challengers=SMAC_CHALLENGERS)
        self._challengers, maximizer.maximize = maximizer.maximize, self._feasible
        # Its local search starts from a set, whose order would depend on the process.
        local = maximizer._local_search
        self._starts, local._get_initial_points = local._get_initial_points, self._in_order
        return facade(
            scenario,
            model=_forest(self.space, self.seed),
            acquisition_function=acquisition,
            acquisition_maximizer=maximizer,
            initial_design=facade.get_initial_design(scenario, n_configs=0),  # random candidates are told instead
            intensifier=facade.get_intensifier(scenario, max_config_calls=1),
            config_selector=facade.get_config_selector(scenario, retrain_after=batch),
            logging_level=False,
        )

    def _feasible_improvement(self, points: Floats) -> Floats:
        """Return SMAC's acquisition [n, 1] of points [n, d], whose ranges are from 0 to 1; -inf where none may be proposed."""
        steps = np.where(self._ranges, self.constraints.space.sizes - 1, 1)
        index = self.constraints.space.canonical(np.rint(points * steps).astype(np.int64))
        return np.where(self.untried.have(index)[:, None], self._improvement(points), -np.inf)

    def _feasible(self, *args: Any, **settings: Any) -> Iterator[Any]:
        """Return SMAC's challengers that are feasible and untried, best first."""
        return (one for one in self._challengers(*args, **settings) if self.untried.has(self._row(one)))

    def _in_order(self, *args: Any) -> list[Any]:
        """Return the configurations from which SMAC's local search starts, in the order of their index rows."""
        return sorted(self._starts(*args), key=self._row)

    def _begin(self, row: list[int]) -> None:
        """Do nothing: SMAC hears of a candidate that it did not propose when its result is there."""

    def _propose(self) -> list[int]:
        with contextlib.suppress(
            StopIteration, self._exhausted
        ):  # few candidates are left, and SMAC finds none of them
            self._last = self._row(self.facade.ask().config)
        # Where no challenger is left, SMAC draws at random, and knows no constraint.
        return self._last if self.untried.has(self._last) else self.untried.near(self._last)

    def _learn(self, row: Row, accuracy: float) -> None:
        if accuracy != accuracy:
            return  # for SMAC it still runs, so that SMAC does not learn from it
        values = {str(j): int(i) for j, i in enumerate(row)}
        configuration = self._config_space.Configuration(self.space, values=values)
        # Candidates are told before SMAC is asked, so it gives all trainings the seed of those, and trains none of them again.
        trial = self._history.TrialInfo(configuration, seed=0)
        self.facade.tell(trial, self._history.TrialValue(cost=100.0 - accuracy), save=False)

    def _row(self, configuration: Any) -> list[int]:
        """Return the index row of a configuration."""
        row = [int(configuration[str(j)]) for j in range(len(self.constraints.space.coordinates))]
        found: list[int] = self.constraints.space.canonical(np.array([row]))[0].tolist()
        return found


def _forest(space: Any, seed: int) -> Any:
    """Return the forest of SMAC's facade, on one thread. By default it reserves memory for a million leaves in every tree."""
    return load_package("smac.model.random_forest.random_forest").RandomForest(
        space,
        log_y=True,
        n_trees=10,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=LEAVES,
        n_jobs=1,
        seed=seed,
    )


def _is_range(coordinate: Coordinate) -> bool:
    return coordinate.ordered and len(coordinate.values) > 1


def _parameter(config_space: Any, j: int, coordinate: Coordinate) -> Any:
    size = len(coordinate.values)
    if _is_range(coordinate):
        return config_space.Integer(str(j), (0, size - 1))
    return config_space.Categorical(str(j), list(range(size)))
