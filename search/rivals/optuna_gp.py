"""Optuna's Gaussian process (extra `compare`), whose acquisition is maximised over the feasible candidates alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from fbnetv3.search.rivals.optuna_rivals import OptunaRival, make_sampler
from fbnetv3.search.rivals.settings import STARTUP
from fbnetv3.search.rivals.untried import changed
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Floats, IntMatrix

DRAWN = 2048  # random candidates that the acquisition looks at; Optuna has as many
CLIMBS = 10  # of them, the best, from which it climbs; Optuna has as many


class GaussianProcess(OptunaRival):
    """The logarithm of expected improvement on Optuna's Gaussian process, of a batch where trials run.

    Optuna would model the FLOPs of the candidates with a second process, although they are known, and would propose tried
    candidates again. So its maximiser is replaced, which it offers for such cases: random candidates, and from the best of
    them changes of one coordinate until none gains. Only feasible and untried candidates are looked at.

    Raises:
        InputError: Optuna is missing, or the space is a sparse table.
    """

    def __init__(self, constraints: ConstraintSet, seed: int) -> None:
        sampler = make_sampler("GPSampler", seed, n_startup_trials=1)
        sampler._optimize_acqf = self._maximise
        super().__init__(constraints, seed, STARTUP, sampler, asks=1)

    def _maximise(self, acquisition: Any, _best: object) -> Floats:
        """Return the parameters [k] of the best candidate that was found, in the units of the acquisition."""
        rows = self.untried.among(self.constraints.draw(DRAWN, self.untried.rng))
        if not len(rows):
            rows = np.array([self.untried.near([0] * len(self.constraints.space.coordinates))])
        scores = self._scores(acquisition, rows)
        ends = [self._climb(acquisition, rows[i], scores[i]) for i in np.argsort(-scores, kind="stable")[:CLIMBS]]
        best, _ = max(ends, key=lambda end: end[1])
        return np.asarray(self._parameters(acquisition, best[None])[0])

    def _climb(self, acquisition: Any, row: Any, score: float) -> tuple[Any, float]:
        """Return the row [d] where changes of one coordinate do not gain any more, and its score."""
        while True:
            neighbours = self.untried.among(changed(self.constraints.space, row))
            scores = self._scores(acquisition, neighbours) if len(neighbours) else np.array([score])
            if scores.max() <= score:
                return row, score
            row, score = neighbours[scores.argmax()], float(scores.max())

    def _scores(self, acquisition: Any, rows: IntMatrix) -> Floats:
        return np.asarray(acquisition.eval_acqf_no_grad(self._parameters(acquisition, rows)))

    def _parameters(self, acquisition: Any, rows: IntMatrix) -> Floats:
        named = [{name: row[int(name)] for name in self.distributions} for row in rows.tolist()]
        return np.asarray(acquisition.search_space.get_normalized_params(named, named))
