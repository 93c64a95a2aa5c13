"""Stage 2, constrained iterative optimisation: which candidates to train next (section 3.3)."""

from __future__ import annotations

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.space.space import Booleans, Floats, IntMatrix, IntVector

DISTANCE_SHARE = 8  # by default, the rows of a batch differ in one of so many coordinates, and in two at least


def first_batch(n: int, m: int, seed: int) -> IntVector:
    """Return `m` random positions in a pool of `n`: the candidates of the first batch (section 4.1)."""
    return np.random.default_rng(seed).choice(n, m, replace=False)


def warm_batch(drawn: IntVector, sources: Floats, pool: IntMatrix) -> IntVector:
    """Return the positions in the pool of the first batch of a search that starts from earlier ones.

    Half of the random batch stays, so that a misleading source costs little. The other half are candidates that the sources
    think best, each source in turn, so that a good source pays at once.

    Args:
        drawn: the first batch of a search without sources.
        sources: how good every source thinks that the candidates are [sources, pool].
        pool: index rows [pool, coordinates].
    """
    best, tried = len(drawn) // 2, np.zeros(len(pool), bool)
    kept = drawn[: len(drawn) - best]
    tried[kept] = True
    return np.concatenate([kept, promising_batch(sources, tried, best, pool)])


def promising_batch(
    members: Floats,
    tried: Booleans,
    m: int,
    index: IntMatrix | None = None,
    min_distance: int | None = None,
) -> IntVector:
    """Return the positions in the pool of the candidates to train next: those with the highest predicted accuracy.

    The members of the ensemble choose in turn, and each chooses its favourite among the rows that are left. Where the
    members agree, the batch is the top of the mean. Where they disagree, the batch covers what the few trials so far leave
    open, instead of `m` near-duplicates of one guess.

    With `index`, a row is passed over while it differs in fewer than `min_distance` coordinates from a row of the batch. If
    no other rows are left, the largest distance that is left counts instead.

    Args:
        members: predicted accuracy [members, pool].
        tried: rows that must not be chosen again [pool].
        index: index rows of the pool [pool, coordinates]. Without them a batch may hold near-duplicates.
        min_distance: by default an eighth of the coordinates, and at least 2.

    Raises:
        InputError: fewer than `m` rows are left.
    """
    if (~tried).sum() < m:
        raise InputError(f"the pool has {(~tried).sum()} candidates left, a batch needs {m}; give a larger pool")
    wanted = 0
    if index is not None:
        wanted = max(2, index.shape[1] // DISTANCE_SHARE) if min_distance is None else min_distance
    left, chosen = ~tried, []
    distance = np.full(len(tried), np.iinfo(np.int64).max)  # to the nearest row of the batch
    for i in range(m):
        allowed = left & (distance >= min(wanted, distance[left].max()))
        chosen.append(int(np.where(allowed, members[i % len(members)], -np.inf).argmax()))
        left[chosen[-1]] = False
        if index is not None:
            distance = np.minimum(distance, (index != index[chosen[-1]]).sum(axis=1))
    return np.array(chosen)
