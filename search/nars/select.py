"""Stage 2, constrained iterative optimisation: which candidates to train next, and for how long (section 3.3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

from fbnetv3.errors import InputError

APART = 8  # by default the rows of a batch differ in a coordinate of so many, and in two at least


def first_batch(n: int, m: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of a pool of `n` to train first: `m` random ones (section 4.1)."""
    return np.random.default_rng(seed).choice(n, m, replace=False)


def promising_batch(
    members: npt.NDArray[np.float64],
    tried: npt.NDArray[np.bool_],
    m: int,
    index: npt.NDArray[np.int64] | None = None,
    min_distance: int | None = None,
) -> npt.NDArray[np.int64]:
    """Rows of the pool to train next: those of the highest predicted accuracy, by the members of the ensemble in turn.

    Each member names its favourite among the rows that are left. Where they agree this is the top of the mean; where they
    do not, the batch covers what the few trials so far leave open, instead of `m` near-copies of one guess.

    With `index`, rows that differ from one chosen before in fewer than `min_distance` coordinates are passed over while
    others are left; then the farthest distance that is left counts instead. So no two rows of the batch are closer than
    `min_distance` unless, when the later one was chosen, every row left was as close to one chosen before.

    Args:
        members: predicted accuracy [members, pool].
        tried: rows that must not be chosen again [pool].
        index: index rows of the pool [pool, coordinates]; without them batches may hold near-copies.
        min_distance: by default an eighth of the coordinates, and 2 at least.

    Raises:
        InputError: fewer than `m` rows are left.
    """
    if (~tried).sum() < m:
        raise InputError(f"the pool has {(~tried).sum()} candidates left, a batch needs {m}; give a larger pool")
    wanted = 0 if index is None else max(2, index.shape[1] // APART) if min_distance is None else min_distance
    left, chosen = ~tried, []
    distance = np.full(len(tried), np.iinfo(np.int64).max)  # to the nearest row of the batch
    for i in range(m):
        allowed = left & (distance >= min(wanted, distance[left].max()))
        chosen.append(int(np.where(allowed, members[i % len(members)], -np.inf).argmax()))
        left[chosen[-1]] = False
        if index is not None:
            distance = np.minimum(distance, (index != index[chosen[-1]]).sum(axis=1))
    return np.array(chosen)


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of one ranking with another; NaN where there is nothing to rank."""

    spearman: float
    kendall: float


def agreement(a: npt.ArrayLike, b: npt.ArrayLike) -> Agreement:
    """Spearman's coefficient and Kendall's tau-b, ties at their mean rank; NaN of fewer than three or of equal values."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(math.nan, math.nan)
    return Agreement(float(spearmanr(a, b)[0]), float(kendalltau(a, b)[0]))


def rank_correlations(curves: Sequence[Sequence[float]]) -> list[Agreement]:
    """How the ranking after every epoch agrees with that after the last one (Figure 5).

    Args:
        curves: accuracy after every epoch, one list a training; those that diverged or failed, empty or shorter than the
            others, are left out.

    Returns:
        One entry an epoch; the last is 1 where there is a ranking at all. None of no curves.
    """
    longest = max(map(len, curves), default=0)
    table = np.array([curve for curve in curves if len(curve) == longest], float)
    return [agreement(table[:, epoch], table[:, -1]) for epoch in range(longest)]


def noise_ceiling(accuracies: npt.ArrayLike) -> Agreement:
    """How far trainings of the same candidates with different seeds agree: the mean over all pairs of seeds.

    A ranking after an early epoch that agrees with its final one better than this loses nothing that another seed would
    not change as well. Of k candidates its standard error is about (1 - r^2) / sqrt(k - 1): ten say little.

    Args:
        accuracies: [seeds, candidates], NaN for a training that failed; a pair of seeds is compared on the candidates that
            both have.

    Returns:
        NaN where no two seeds share three candidates that can be ranked: the ceiling is unknown.
    """
    table = np.asarray(accuracies, float)
    found = []
    for a, b in itertools.combinations(table, 2):
        both = np.isfinite(a) & np.isfinite(b)
        pair = agreement(a[both], b[both])
        if not math.isnan(pair.spearman):
            found.append(pair)
    if not found:
        return Agreement(math.nan, math.nan)
    return Agreement(float(np.mean([p.spearman for p in found])), float(np.mean([p.kendall for p in found])))


def early_stopping_epoch(curves: Sequence[Sequence[float]], threshold: float, epochs: int) -> int:
    """The first epoch after which the ranking of the first batch agrees with its final one.

    Args:
        curves: as in `rank_correlations`.
        threshold: Spearman's rank correlation with the last epoch that must be reached, e.g. 0.92.
        epochs: the length of the trainings.

    Returns:
        The epoch, from 1; the last one if no earlier epoch reaches the threshold or fewer than three trainings ended well:
        then the threshold buys nothing.
    """
    correlations = rank_correlations([curve for curve in curves if len(curve) == epochs])
    return next((epoch for epoch, c in enumerate(correlations, 1) if c.spearman >= threshold), epochs)
