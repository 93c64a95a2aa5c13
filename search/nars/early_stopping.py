"""How long trainings must be to rank candidates: rank correlation by epoch, and the noise of a ranking (section 3.3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of two rankings; NaN where there is nothing to rank."""

    spearman: float
    kendall: float


def agreement(a: npt.ArrayLike, b: npt.ArrayLike) -> Agreement:
    """Return Spearman's coefficient and Kendall's tau-b, with ties at their mean rank.

    Both are NaN for fewer than three values, and where all values of a ranking are equal.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(math.nan, math.nan)
    return Agreement(float(spearmanr(a, b)[0]), float(kendalltau(a, b)[0]))


def rank_correlations(curves: Sequence[Sequence[float]]) -> list[Agreement]:
    """Return how the ranking after every epoch agrees with the ranking after the last epoch (Figure 5).

    Args:
        curves: accuracy after every epoch, one list for each training. Shorter lists than the longest are left out: these
            trainings diverged or failed.

    Returns:
        One entry for each epoch. The last one is 1 where there is a ranking at all. Without curves the list is empty.
    """
    longest = max(map(len, curves), default=0)
    table = np.array([curve for curve in curves if len(curve) == longest], float)
    return [agreement(table[:, epoch], table[:, -1]) for epoch in range(longest)]


def noise_ceiling(accuracies: npt.ArrayLike) -> Agreement:
    """Return how far trainings of the same candidates with different seeds agree: the mean over all pairs of seeds.

    An early epoch whose ranking agrees better than this with the final ranking is good enough: another seed would change the
    final ranking as much. With k candidates the standard error is about (1 - r^2) / sqrt(k - 1), so ten candidates say little.

    Args:
        accuracies: [seeds, candidates], NaN for a training that failed. A pair of seeds is compared on the candidates that
            both have.

    Returns:
        NaN, for unknown, where no two seeds share three candidates that can be ranked.
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
    """Return the first epoch after which the ranking of the first batch agrees with its final ranking.

    Args:
        curves: as in `rank_correlations`.
        threshold: Spearman's rank correlation with the last epoch that must be reached, such as 0.92.
        epochs: length of the trainings.

    Returns:
        The epoch, from 1. It is the last one if no earlier epoch reaches the threshold or if fewer than three trainings
        succeeded: then nothing is saved.
    """
    correlations = rank_correlations([curve for curve in curves if len(curve) == epochs])
    return next((epoch for epoch, c in enumerate(correlations, 1) if c.spearman >= threshold), epochs)
