"""Which recipe small and large networks want, as the predictor sees it (section 5 and Table 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.space.space import Coordinate, Floats, IntMatrix, IntVector

SIZES = ("small", "large")  # the third of the feasible candidates that costs least, and the third that costs most
ARCHS = 12  # of each size
RECIPES, GOOD = 256, 8  # recipes that are looked at, and the best of them for each size
LEVELS = 5  # values of a range that are looked at
SURE = 0.8  # share of the draws that a statement needs


@dataclass(frozen=True, eq=False)
class Preference:
    """What one coordinate of the recipe does to the accuracy of small and of large networks, all else equal.

    Attributes:
        values: the values that were looked at.
        ordered: whether they are a range.
        effect: accuracy with each value minus the mean over all, in points [draws, sizes, values].
    """

    name: str
    values: tuple[Any, ...]
    ordered: bool
    effect: Floats

    def shares(self, size: int) -> Floats:
        """Return in which share of the draws every value is the best for networks of a size [values]."""
        best = self.effect[:, size].argmax(axis=1)
        return np.bincount(best, minlength=len(self.values)) / len(best)

    def wanted(self, size: int) -> tuple[int, ...]:
        """Return the fewest values, of a range neighbours, that hold the best one in at least SURE of the draws."""
        shares = self.shares(size)
        if not self.ordered:
            order = np.argsort(-shares, kind="stable")
            return tuple(sorted(order[: 1 + int(np.searchsorted(shares[order].cumsum(), SURE - 1e-9))].tolist()))
        ends = [(i, j) for i in range(len(shares)) for j in range(i + 1, len(shares) + 1)]
        sure = [(j - i, -shares[i:j].sum(), i, j) for i, j in ends if shares[i:j].sum() >= SURE - 1e-9]
        return tuple(range(*min(sure)[2:]))

    @property
    def shift(self) -> tuple[float, float]:
        """In which shares of the draws large networks want a lower and a higher value; of a choice, another one, twice."""
        small, large = (self.effect[:, size].argmax(axis=1) for size in (0, 1))
        lower, higher = (large < small, large > small) if self.ordered else (large != small, large != small)
        return float(lower.mean()), float(higher.mean())

    @property
    def gain(self) -> Floats:
        """What the best value gains over the mean of all values, in points, by size: the mean over the draws [sizes]."""
        return np.asarray(self.effect.mean(axis=0).max(axis=1))


@dataclass(frozen=True, eq=False)
class Recipes:
    """The recipes of small and large networks.

    Attributes:
        limits: small networks cost at most the first figure, large ones at least the second one.
        preferences: by coordinate, the most important first.
        best: index rows whose recipes are the best for each size [sizes, d], by the predicted mean.
        swapped: accuracy that each size loses with the best recipe of the other one, in points [draws, sizes] (Table 6).
    """

    limits: tuple[int, int]
    preferences: tuple[Preference, ...]
    best: IntMatrix
    swapped: Floats


def recipes_by_size(posterior: Posterior) -> Recipes | None:
    """Return what small and large networks want; None where the networks have one size, or recipes are not searched."""
    costs, searched = posterior.costs, [j for j, c in enumerate(posterior.space.coordinates) if _searched(c)]
    low, high = np.quantile(costs, [1 / 3, 2 / 3], method="nearest")
    if low >= high or not searched:
        return None
    small, large = posterior.rows[costs <= low], posterior.rows[costs >= high]
    count = min(ARCHS, len(small), len(large))
    archs, recipes = np.stack([small[:count], large[:count]]), posterior.different(RECIPES, arch=False)
    scores = posterior.mean(posterior.pair(archs[:, :, None], recipes)).mean(axis=1)  # [sizes, recipes]
    order = np.argsort(-scores, axis=1, kind="stable")
    found = [_preference(posterior, j, archs, recipes[order[:, :GOOD]]) for j in searched]
    best = recipes[order[:, 0]]
    drawn = posterior.draw(posterior.pair(archs[:, :, None], best)).mean(axis=2)  # [draws, sizes, recipes]
    swapped = np.stack([drawn[:, 0, 0] - drawn[:, 0, 1], drawn[:, 1, 1] - drawn[:, 1, 0]], axis=1)
    found.sort(key=lambda preference: -preference.gain.max())
    return Recipes((int(low), int(high)), tuple(found), best, swapped)


def _searched(coordinate: Coordinate) -> bool:
    return not coordinate.arch and len(coordinate.values) > 1


def _preference(posterior: Posterior, j: int, archs: IntMatrix, good: IntMatrix) -> Preference:
    """Vary one coordinate of recipes [sizes, GOOD, d] that are good for the architectures [sizes, ARCHS, d] of each size."""
    coordinate = posterior.space.coordinates[j]
    levels = _levels(coordinate)
    # Every architecture has one of the good recipes, so that few rows hold many combinations.
    turns = np.arange(archs.shape[1]) % good.shape[1]
    rows = np.repeat(posterior.pair(archs, good[:, turns])[:, :, None], len(levels), axis=2)
    rows[..., j] = levels
    drawn = posterior.draw(rows).mean(axis=2)  # [draws, sizes, values]
    values = tuple(coordinate.values[i] for i in levels)
    return Preference(coordinate.name, values, coordinate.ordered, drawn - drawn.mean(axis=2, keepdims=True))


def _levels(coordinate: Coordinate) -> IntVector:
    n = len(coordinate.values)
    return np.unique(np.linspace(0, n - 1, min(n, LEVELS)).round().astype(int)) if coordinate.ordered else np.arange(n)
