"""Accuracies that are known without trainings: made-up ones, or those of a surrogate of a table of trainings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.search.collect.surrogate import Surrogate
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import Floats, IntMatrix, SearchSpace
from fbnetv3.search.space.table_file import read_table
from fbnetv3.search.trial import Candidate, Outcome

INVENTED = "invented"  # name of the made-up landscape; any other name is the path of a table
NOISE = 0.5  # std of a made-up training, in points
Truth = Callable[[IntMatrix], Floats]
"""The true accuracies [n] of index rows [n, d]."""


@dataclass(frozen=True)
class LandscapeEvaluator:
    """A training whose accuracy is that of a landscape with noise. Earlier epochs are lower, but rank candidates alike.

    Attributes:
        noise: std of a training in points, by the true accuracy.
    """

    space: SearchSpace
    truth: Truth
    noise: Callable[[float], float]

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """Return a curve that ends near the true accuracy after the last epoch of the recipe."""
        top = float(self.truth(np.array([self.space.find(candidate.values)]))[0])
        top += self.noise(top) * float(np.random.default_rng(seed).normal())
        last = candidate.recipe.epochs
        # All curves have the same shape, so every epoch ranks the candidates alike: early stopping loses nothing here.
        curve = (top - 10.0 * (last - epoch) / last for epoch in range(1, epochs + 1))
        return Outcome(tuple(min(max(acc1, 0.0), 100.0) for acc1 in curve), "ok", 0.0)


def landscape(name: str, place: str, space: SearchSpace) -> LandscapeEvaluator:
    """Return the trainings of a landscape; see `INVENTED`.

    Args:
        place: what `load_space` loads the space from.

    Raises:
        InputError: no such table, or one of another space.
    """
    if name == INVENTED:
        return LandscapeEvaluator(space, Oracle(space), _invented_noise)
    surrogate = _fitted(name, Path(name).stat().st_mtime_ns, place)
    return LandscapeEvaluator(space, surrogate, surrogate.noise)


def _invented_noise(accuracy: float) -> float:
    return NOISE


@functools.lru_cache(maxsize=1)
def _fitted(table: str, modified: int, space: str) -> Surrogate:
    """Return the surrogate of a table. It is fitted once, and not once for each of hundreds of searches."""
    return Surrogate.fit(load_space(space), read_table(Path(table)))
