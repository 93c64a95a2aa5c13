"""Quasi Monte-Carlo samples of a space (section 3.3), filtered by a constraint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from fbnetv3.errors import InputError
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.space import IntMatrix, SearchSpace

MAX_DRAWS = 2**20
CHUNK = 2**13  # rows drawn at a time: few enough for the cache


def sobol(space: SearchSpace, log2_n: int, seed: int) -> IntMatrix:
    """2**log2_n index rows of a scrambled Sobol sequence over the coordinates of a space."""
    return np.concatenate(list(draws(space, 2**log2_n, seed)))


def draws(space: SearchSpace, n: int, seed: int) -> Iterator[IntMatrix]:
    """The first `n` index rows of a scrambled Sobol sequence, `CHUNK` at a time (the last ones fewer).

    The rows of a seed do not depend on `n`. A power of two covers every value equally. Of a table that has not every
    combination of values the rows are drawn instead, each once, in random order.
    """
    if space.listed is not None:
        shuffled = np.random.default_rng(seed).permutation(space.listed)[:n]
        yield from (shuffled[start : start + CHUNK] for start in range(0, len(shuffled), CHUNK))
        return
    sequence = qmc.Sobol(len(space.coordinates), scramble=True, rng=np.random.default_rng(seed))
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        # From a power of two scipy does not warn; the rows beyond `n` are cut off.
        unit = sequence.random(CHUNK if start else 1 << (size - 1).bit_length())[:size]
        unit *= space.sizes
        # The floor keeps every value equally likely; rounding would halve the ends.
        yield unit.astype(np.int64)


def sample(space: SearchSpace, n: int, constraint: Constraint, seed: int) -> IntMatrix:
    """`n` different index rows inside the constraint, in the order drawn.

    Raises:
        InputError: `MAX_DRAWS` samples do not hold `n` such rows; the message says how many they hold, and the range seen.
    """
    rows = np.empty((0, len(space.coordinates)), np.int64)
    fresh: list[IntMatrix] = []
    low, high, drawn = np.inf, 0.0, 0
    for index in draws(space, MAX_DRAWS, seed):
        drawn += len(index)
        value = constraint.values(space, index)
        low, high = min(low, value.min()), max(high, value.max())
        fresh.append(space.canonical(index[constraint.holds(value)]))
        if len(rows) + sum(map(len, fresh)) >= n:
            rows = np.concatenate([rows, *fresh])
            rows = rows[space.distinct(rows)]
            fresh = []
            if len(rows) >= n:
                return rows[:n]
    found = len(space.distinct(np.concatenate([rows, *fresh])))
    raise InputError(
        f"space {space.name}: only {found} of {drawn:,} samples have {constraint.metric} "
        f"({constraint.convention} convention) from {constraint.min:g} to {constraint.max:g}, {n} are needed; "
        f"the samples have {low:,} to {high:,}: give a constraint inside that range"
    )
