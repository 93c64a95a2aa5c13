"""How many times as fast: a ratio of medians of interleaved times, with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Ratio:
    """Median time of the reference over that of the path (above 1: the path is faster), and its 95% interval."""

    ratio: float
    low: float
    high: float


def speed_ratio(reference: Sequence[float], path: Sequence[float]) -> Ratio:
    """The ratio of two series of times in which row i of both was taken in the same round.

    The interval is the percentile bootstrap over rounds, which are drawn together for both series.
    """
    both = np.array([reference, path], dtype=np.float64)
    drawn = np.random.default_rng(SEED).integers(both.shape[1], size=(RESAMPLES, both.shape[1]))
    medians = np.median(both[:, drawn], axis=2)
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    middle = np.median(both, axis=1)
    return Ratio(round(float(middle[0] / middle[1]), 4), round(float(low), 4), round(float(high), 4))


def fastest(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The name, of those given, with the smallest median."""
    return min(names, key=lambda name: float(np.median(times[name])))
