"""How much of the variance of accuracy is due to the architecture, the recipe, both together, and the noise of a training.

It is a functional analysis of variance over all feasible architectures with all recipes, each equally likely. The paper says
that an architecture needs its own recipe (Tables 1 and 6); the part of both together, the interaction, says how much.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.space.space import Booleans, Floats

PARTS = ("architecture", "recipe", "both together", "noise of a training")
MEANINGS = (
    "how much the accuracy differs between architectures, on average over the recipes",
    "how much it differs between recipes, on average over the architectures",
    "what neither explains alone: an architecture gains more from a recipe than other architectures do",
    "how much it differs between trainings of the same pair",
)
BLOCKS, SIDE = 48, 4  # blocks of some architectures, each with the same recipes, and how many of both a block has
NOISY = 12  # blocks of whose trainings the noise is computed
ARCHS, RECIPES, GOOD = 32, 64, 8  # of a ranking: architectures, recipes that are looked at, and the best of these
INTERVAL = (5, 50, 95)  # percentiles: the ends of an interval and its middle


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The parts of the variance.

    Attributes:
        whole: share of every part over all feasible candidates [draws, 4].
        better: the same without noise where a candidate below the median counts as the median: what makes good ones better
            [draws, 3]. A predictor knows little about the noise of the best candidates alone.
        noise: std of a training in points [draws], over all candidates.
    """

    whole: Floats
    better: Floats
    noise: Floats


def decompose(posterior: Posterior) -> Decomposition:
    """Return the parts of the variance, each as often as there are draws of the posterior.

    Their differences say how sure the parts are: few trials leave the predictor free, and BLOCKS is a finite sample.
    """
    n = min(BLOCKS, len(posterior.rows) // (2 * SIDE))
    archs, recipes = np.split(posterior.rows[: 2 * SIDE * n].reshape(n, 2 * SIDE, -1), 2, axis=1)
    blocks = posterior.pair(archs[:, :, None], recipes[:, None])  # [n, SIDE, SIDE, d]
    drawn, rng = posterior.draw(blocks), np.random.default_rng(posterior.seed)
    first, second = np.moveaxis(posterior.train_twice(blocks[:NOISY].reshape(-1, blocks.shape[-1])), 1, 0)
    noise = np.mean((first - second) ** 2, axis=1) / 2
    whole, better = list[Sequence[float]](), list[Sequence[float]]()
    for f, loud in zip(drawn, noise, strict=True):
        again = rng.integers(n, size=n)  # a bootstrap of the blocks
        whole.append([*parts(f[again]), loud])
        better.append(parts(np.maximum(f, np.median(f))[again]))
    return Decomposition(_shares(whole), _shares(better), np.sqrt(noise))


def parts(blocks: Floats) -> tuple[float, float, float]:
    """Return the variance that is due to the architecture, to the recipe, and to both together.

    As in the estimators of Saltelli and Jansen, one half of a pair is frozen while the other one changes. What is left of an
    architecture's mean over few recipes by the interaction is subtracted.

    Args:
        blocks: accuracies [n, architectures, recipes] of random architectures, each with the same random recipes.
    """
    n, rows, columns = blocks.shape
    mean = blocks.mean(axis=(1, 2), keepdims=True)
    arch, recipe = blocks.mean(axis=2, keepdims=True) - mean, blocks.mean(axis=1, keepdims=True) - mean
    both = float(np.sum((blocks - mean - arch - recipe) ** 2)) / (n * (rows - 1) * (columns - 1))
    by_arch = float(np.sum(arch**2)) / (n * (rows - 1)) - both / columns
    by_recipe = float(np.sum(recipe**2)) / (n * (columns - 1)) - both / rows
    return max(by_arch, 0.0), max(by_recipe, 0.0), both


def _shares(variances: Sequence[Sequence[float]]) -> Floats:
    table = np.array(variances)
    return np.asarray(table / np.maximum(table.sum(axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True, eq=False)
class Flips:
    """How often two architectures change places: shares of all pairs of architectures [draws]. Kendall's tau is 1 - 2 * share.

    Attributes:
        recipes: with another good recipe, both measured without noise.
        seeds: with the same recipe and another seed.
    """

    recipes: Floats
    seeds: Floats


def rank_flips(posterior: Posterior) -> Flips:
    """Return how often the ranking of two architectures changes with the recipe (Table 1), among recipes that are good."""
    archs, recipes = posterior.different(ARCHS, arch=True), posterior.different(RECIPES, arch=False)
    best = posterior.mean(posterior.pair(archs[:, None], recipes)).mean(axis=0).argsort()[::-1][:GOOD]
    rows = posterior.pair(archs[:, None], recipes[best])
    order, again = _order(posterior.draw(rows)), posterior.train_twice(rows)
    pairs = itertools.combinations(range(len(best)), 2)
    recipes_differ = np.mean([(order[..., i] != order[..., j]).mean(axis=1) for i, j in pairs], axis=0)
    seeds_differ = (_order(again[:, 0]) != _order(again[:, 1])).mean(axis=(1, 2))
    return Flips(recipes_differ, seeds_differ)


def _order(accuracy: Floats) -> Booleans:
    """Tell of every pair of architectures which is better: [draws, archs, recipes] to [draws, pairs, recipes]."""
    first, second = np.triu_indices(accuracy.shape[1], 1)
    return np.asarray(accuracy[:, first] > accuracy[:, second])
