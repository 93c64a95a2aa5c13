"""Random search: it learns nothing, so batches cost it nothing."""

from __future__ import annotations

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.acquisition import first_batch
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Floats, IntMatrix


class Random:
    """Random feasible candidates of a Sobol pool, and what is left of the pool afterwards. It searches every space.

    Args:
        pool: number of candidates in the pool.
        trainings: how many of them are drawn first.

    Raises:
        InputError: there are fewer feasible candidates than the pool needs.
    """

    def __init__(self, constraints: ConstraintSet, seed: int, pool: int, trainings: int) -> None:
        rows = constraints.sample(max(pool, trainings), seed)
        drawn = first_batch(len(rows), trainings, seed)
        self._left = np.concatenate([rows[drawn], np.delete(rows, drawn, axis=0)])

    def ask(self, n: int) -> IntMatrix:
        """Return new candidates; see `Rival.ask`."""
        if n > len(self._left):
            raise InputError(f"the pool has {len(self._left)} candidates left, {n} are needed; give a larger pool")
        rows, self._left = self._left[:n], self._left[n:]
        return rows

    def tell(self, rows: IntMatrix, accuracies: Floats) -> None:
        """Ignore results."""
