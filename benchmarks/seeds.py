"""What several seeds say together: mean and deviation, and the difference of two methods seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """Mean over pairs and its two-sided 95% interval."""

    mean: float
    low: float
    high: float


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Of `a` minus `b`, pair by pair, with Student's t interval; needs two pairs or more."""
    difference = np.subtract(a, b)
    half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    return Interval(float(difference.mean()), float(difference.mean() - half), float(difference.mean() + half))


def spread(accuracies: Mapping[str, float] | Mapping[int, float], alone: float | None = None) -> dict[str, Any]:
    """Accuracies by seed, their number, mean (None for none) and sample standard deviation (`alone` for one or none)."""
    found = list(accuracies.values())
    return {
        "seeds": {str(seed): round(value, 3) for seed, value in accuracies.items()},
        "n": len(found),
        "mean": round(statistics.fmean(found), 3) if found else None,
        "deviation": round(statistics.stdev(found), 3) if len(found) > 1 else alone,
    }
