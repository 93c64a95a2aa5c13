"""What repeated measurements say together: ratios of times, differences of paired series, means over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000  # of the bootstrap
SEED = 0  # of the bootstrap: the same times have the same interval


@dataclass(frozen=True)
class Ratio:
    """Median time of a reference divided by the median time of a path, with the 95% interval.

    Above 1 the path is faster than the reference.
    """

    ratio: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the ratio as a result file holds it."""
        return dataclasses.asdict(self)


def speed_ratio(reference: Sequence[float], path: Sequence[float]) -> Ratio:
    """Return how many times as fast as the reference a path is.

    The interval is the percentile bootstrap over rounds. The rounds are resampled together for both series, because the load
    of the machine during a round slows both.

    Args:
        reference: seconds of the reference, one per round.
        path: seconds of the path in the same rounds.
    """
    both = np.array([reference, path], dtype=np.float64)
    # A slow round slows both series. Resampling them apart would make the interval of their ratio too wide.
    drawn = np.random.default_rng(SEED).integers(both.shape[1], size=(RESAMPLES, both.shape[1]))
    medians = np.median(both[:, drawn], axis=2)
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    middle = np.median(both, axis=1)
    return Ratio(round(float(middle[0] / middle[1]), 4), round(float(low), 4), round(float(high), 4))


def fastest(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Return that of `names` whose times have the smallest median."""
    return min(names, key=lambda name: float(np.median(times[name])))


@dataclass(frozen=True)
class Interval:
    """Mean of a paired difference and its two-sided interval, see `paired_difference`."""

    mean: float
    low: float
    high: float

    def rounded(self, digits: int) -> dict[str, float]:
        """Return the interval as a result file holds it, with so many decimal places."""
        return {key: round(value, digits) for key, value in dataclasses.asdict(self).items()}


def paired_difference(a: Sequence[float], b: Sequence[float], *, comparisons: int = 1) -> Interval:
    """Return the mean of `a` minus `b`, pair by pair, with Student's t interval. It needs at least two pairs.

    Args:
        comparisons: number of differences that are looked at together. By Bonferroni's correction, all of their intervals hold
            at the same time with a probability of at least 95%.
    """
    # Pairing removes what the seed does to both. The sums over seeds alone would need many more seeds.
    difference = np.subtract(a, b)
    half = stats.t.ppf(1 - 0.025 / comparisons, len(difference) - 1) * stats.sem(difference)
    return Interval(float(difference.mean()), float(difference.mean() - half), float(difference.mean() + half))


def over_seeds(
    accuracies: Mapping[str, float] | Mapping[int, float], std_of_one: float | None = None
) -> dict[str, Any]:
    """Return accuracies by seed, their number, mean and sample standard deviation, as a result file holds them.

    Args:
        accuracies: accuracy in percent by seed. Without any, the mean is None.
        std_of_one: the standard deviation that is written for fewer than two seeds.
    """
    found = list(accuracies.values())
    return {
        "seeds": {str(seed): round(value, 3) for seed, value in accuracies.items()},
        "n": len(found),
        "mean": round(statistics.fmean(found), 3) if found else None,
        # The key in the result files is older than the word std.
        "deviation": round(statistics.stdev(found), 3) if len(found) > 1 else std_of_one,
    }
