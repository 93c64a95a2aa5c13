"""How long trainings must be to rank candidates: rank correlation by epoch, and the noise of a ranking (section 3.3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.trial import Trial


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


def lower_bound(correlation: float, candidates: int) -> float:
    """Return how high a rank correlation is at least, as far as so many candidates can tell: the lower end of its interval.

    The interval is one standard error of Fisher's z to each side, so a correlation is below its end in about one of six cases.
    A perfect ranking of a few candidates may be an accident. So it counts as if half a swap of two neighbours were missing.

    Returns:
        A number below 1; NaN, for unknown, if the correlation is NaN or if there are fewer than four candidates.
    """
    if candidates < 4 or math.isnan(correlation):
        return math.nan
    # Two swapped neighbours cost twice as much. Fisher's z of 1 is infinite.
    most = min(1 - 6 / (candidates * (candidates**2 - 1)), math.nextafter(1, 0))
    z = math.atanh(min(max(correlation, -most), most))
    return math.tanh(z - 1 / math.sqrt(candidates - 3))


def fewest_candidates(threshold: float) -> int | None:
    """Return how many candidates are needed so that a perfect ranking reaches a threshold; None for one near 1."""
    return next((n for n in range(4, 10_000) if lower_bound(1.0, n) >= threshold), None)


def early_stopping_epoch(curves: Sequence[Sequence[float]], threshold: float, epochs: int) -> int:
    """Return the first epoch from which on the ranking of the first batch agrees with its final ranking.

    Deviation from section 3.3, which takes the epoch where the correlation exceeds the threshold. One correlation of a few
    candidates may be high by accident. So it must stay above the threshold until the end, and its `lower_bound` is compared.

    Args:
        curves: as in `rank_correlations`.
        threshold: Spearman's rank correlation with the last epoch that must be reached, such as 0.92.
        epochs: length of the trainings.

    Returns:
        The epoch, from 1. It is the last one if no earlier epoch will do or if there are too few candidates: then nothing is
        saved.
    """
    complete = [curve for curve in curves if len(curve) == epochs]
    chosen = epochs
    # The last epoch agrees with itself, which says nothing.
    for found in reversed(rank_correlations(complete)[:-1]):
        if not lower_bound(found.spearman, len(complete)) >= threshold:  # NaN is not above it
            break
        chosen -= 1
    return chosen


def trial_epochs(trials: Sequence[Trial], config: SearchConfig, epochs: int) -> int:
    """Return how long the candidates of a search train from round 2 on, and after how many epochs trials are compared.

    With a model of learning curves, both are all epochs: stopped trainings are extrapolated. Earlier versions took the first
    epoch whose correlation reached the threshold. A search that they began continues with it.

    Args:
        trials: those of round 1, and all later ones that were made already.
        epochs: length of the trainings of round 1.
    """
    if config.stopping == "model":
        return epochs
    rounds, threshold = config.rounds, config.early_stopping
    curves = [trial.acc1 for trial in trials if trial.round == 1]
    lengths = {trial.epochs for trial in trials if 1 < trial.round <= rounds}
    correlations = rank_correlations([curve for curve in curves if len(curve) == epochs])
    earlier = next((epoch for epoch, c in enumerate(correlations, 1) if c.spearman >= threshold), epochs)
    return earlier if lengths == {earlier} else early_stopping_epoch(curves, threshold, epochs)
