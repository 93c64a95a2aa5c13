"""Quasi Monte-Carlo samples of a space (section 3.3), filtered by a constraint."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from fbnetv3.errors import InputError
from fbnetv3.search.labels import Constraint, cost
from fbnetv3.search.space import IntMatrix, SearchSpace

MAX_DRAWS = 2**17


def sobol(space: SearchSpace, log2_n: int, seed: int) -> IntMatrix:
    """2**log2_n index rows of a scrambled Sobol sequence over the coordinates of a space."""
    unit = qmc.Sobol(len(space.coordinates), scramble=True, rng=np.random.default_rng(seed)).random_base2(log2_n)
    # The floor keeps every value equally likely; rounding would halve the ends.
    index: IntMatrix = np.minimum((unit * space.sizes).astype(np.int64), space.sizes - 1)
    return index


def sample(space: SearchSpace, n: int, constraint: Constraint, seed: int) -> IntMatrix:
    """`n` different index rows inside the constraint, in the order drawn.

    Raises:
        InputError: `MAX_DRAWS` samples do not hold `n` such rows; the message says how many they hold, and the range seen.
    """
    low, high = np.inf, 0.0
    found = 0
    for log2_n in range(max(6, int(np.ceil(np.log2(4 * n)))), MAX_DRAWS.bit_length()):
        index = space.canonical(sobol(space, log2_n, seed))
        costs = cost(space, index)
        allowed = constraint.allows(costs)
        rows = index[allowed]
        _, first = np.unique(rows, axis=0, return_index=True)
        if len(first) >= n:
            return rows[np.sort(first)[:n]]
        found, value = len(first), constraint.value(costs)
        low, high = min(low, value.min()), max(high, value.max())
    raise InputError(
        f"space {space.name}: only {found} of {MAX_DRAWS:,} samples have {constraint.metric} "
        f"({constraint.convention} convention) from {constraint.min:g} to {constraint.max:g}, {n} are needed; "
        f"the samples have {low:,} to {high:,}: give a constraint inside that range"
    )
