"""Acquisitions: which of many candidates a batch trains next, by what the predictor says of them (section 3.3).

`promising_batch` is the paper's rule, `improving_batch` the default. Both choose any number of rows at once.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

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
    return np.array(chosen, np.int64)


def improving_batch(candidates: Floats, known: Floats, m: int) -> IntVector:
    """Return the positions of the `m` candidates that are expected to improve most, together, on what is known already.

    Deviation from section 3.3, which trains the candidates with the highest predicted accuracy. This is the noisy expected
    improvement of a batch (Letham et al., 2019; Balandat et al., 2020). In every joint draw of the accuracies, a batch improves
    on the best known candidate by as much as its best row is better. So a candidate counts that may be much better, and not
    only one that is probably a little better; and a row near another one of the batch adds little, because where one of them is
    better the other one is too. Rows are chosen one after the other, each for what it adds to those before it.

    Known are trials and candidates that are training now. The accuracies of trials are drawn like the others, because a
    training is noisy: the best measured accuracy is too high.

    Args:
        candidates: joint draws of the candidates' accuracies [draws, n].
        known: of what is known, from the same draws [draws, k].
    """
    best = known.max(axis=1)
    left = np.ones(candidates.shape[1], bool)
    chosen: list[int] = []
    for _ in range(m):
        gain = np.maximum(candidates - best[:, None], 0.0).mean(axis=0)
        # Where no draw improves any more, the highest mean decides.
        score = gain if gain[left].max() > 0.0 else candidates.mean(axis=0)
        chosen.append(int(np.where(left, score, -np.inf).argmax()))
        left[chosen[-1]] = False
        best = np.maximum(best, candidates[:, chosen[-1]])
    return np.array(chosen)


def expected_improvement(mean: Floats, std: Floats, best: float) -> Floats:
    """Return the expected improvement of single candidates on an accuracy, for normal distributions; all [n] but `best`."""
    std = np.maximum(std, 1e-9)
    z = (mean - best) / std
    return np.asarray(std * (z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)))
