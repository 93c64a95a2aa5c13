"""A surrogate: what a table of trainings says of pairs that it does not have. It is an estimate, never a measurement.

A table has a few thousand of a space's pairs, so searches that need a pair's neighbours cannot run on it. On a surrogate all
methods can, thousands of times as fast as with trainings. It is smoother than the truth, and errs where the table has few
pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from fbnetv3.errors import InputError
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import Booleans, Floats, IntMatrix, SearchSpace
from fbnetv3.search.space.table import TableSpace

FOLDS = 5
BEST = 0.25  # share of the pairs that are looked at on their own: a search spends its trainings there
NOISE_GROUPS = 4  # of the pairs with several trainings, by accuracy
SEED = 0
SETTINGS = PredictorSettings(members=1)  # only means are used


@dataclass(frozen=True)
class Surrogate:
    """Accuracies of all pairs of a space, estimated from a table of trainings. Make it with `Surrogate.fit`.

    Attributes:
        levels, noises: mean accuracies of groups of pairs with several trainings, rising, and the std of a training of each
            group in points. Trainings of good pairs differ much less than those of bad ones.
    """

    space: SearchSpace
    predictor: AccuracyPredictor
    levels: Floats
    noises: Floats

    @classmethod
    def fit(cls, space: SearchSpace, table: TableSpace) -> Surrogate:
        """Fit a predictor to all trainings of a table.

        Raises:
            InputError: the table is of another space, or has no pair with several trainings.
        """
        _check(space, table)
        if not (table.trainings > 1).any():
            raise InputError(
                f"table {table.name} has no pair with several trainings, so it does not say how noisy a training is; collect "
                "some with `fbnetv3 search collect`"
            )
        predictor = _pretrained(space, table)
        _fit(predictor, space, table, np.ones(len(table.table), bool))
        return cls(space, predictor, *_noise_by_accuracy(table))

    def __call__(self, index: IntMatrix) -> Floats:
        """Return the estimated accuracies of index rows in percent [n]."""
        return self.predictor.predict(encode(self.space, index))[0]

    def noise(self, accuracy: float) -> float:
        """Return the std of a training of a pair with this accuracy, in points."""
        return float(np.interp(accuracy, self.levels, self.noises))


def _noise_by_accuracy(table: TableSpace) -> tuple[Floats, Floats]:
    """Return the mean accuracies of groups of pairs with several trainings, rising, and the noise of each group."""
    mean = table.accuracy(table.table)
    several = np.flatnonzero(table.trainings > 1)
    groups = np.array_split(several[np.argsort(mean[several])], min(NOISE_GROUPS, len(several)))
    which = [np.isin(np.arange(len(mean)), group) for group in groups]
    return np.array([mean[group].mean() for group in groups]), np.array([table.noise(group) for group in which])


@dataclass(frozen=True)
class Check:
    """How well a surrogate ranks pairs that it was not fitted to, and how well a second training does.

    A rank correlation is None where there are fewer than three pairs, or equal ones alone.

    Attributes:
        error: mean absolute difference of the estimate from the mean of a pair's trainings, in points.
        rank, rank_of_best: Spearman's correlation of both, of all pairs and of the best quarter.
        ceiling, ceiling_of_best: Spearman's correlation of two trainings of the same pair, of all pairs with several trainings
            and of those in the best quarter.
        noise: std of a training in points; None if no pair has several.
    """

    error: float
    rank: float | None
    rank_of_best: float | None
    ceiling: float | None
    ceiling_of_best: float | None
    noise: float | None


def cross_check(space: SearchSpace, table: TableSpace) -> Check:
    """Check surrogates that are fitted to four fifths of the pairs on the others.

    Raises:
        InputError: the table is of another space.
    """
    _check(space, table)
    mean = table.accuracy(table.table)
    fold = np.random.default_rng(SEED).permutation(len(mean)) % FOLDS
    estimate, predictor = np.zeros(len(mean)), _pretrained(space, table)
    for k in range(FOLDS):
        _fit(predictor, space, table, fold != k)
        estimate[fold == k] = predictor.predict(encode(space, table.table[fold == k]))[0]
    best = mean >= np.quantile(mean, 1 - BEST)
    return Check(
        error=float(np.abs(estimate - mean).mean()),
        rank=rank(estimate, mean),
        rank_of_best=rank(estimate[best], mean[best]),
        ceiling=_ceiling(table, np.ones(len(mean), bool)),
        ceiling_of_best=_ceiling(table, best),
        noise=None if np.isnan(noise := table.noise()) else noise,
    )


def _check(space: SearchSpace, table: TableSpace) -> None:
    """Check that the index rows of a table are those of a space."""
    ours, theirs = ([(c.name, len(c.values)) for c in one.coordinates] for one in (space, table))
    if ours != theirs:
        raise InputError(
            f"table {table.name} is of another space than {space.name}: its coordinates or their values differ; give the table "
            "of a collection in this space"
        )


def _pretrained(space: SearchSpace, table: TableSpace) -> AccuracyPredictor:
    """Return a predictor that has learnt the statistics of all pairs of a table."""
    mask = arch_mask(space)
    predictor = AccuracyPredictor(mask, seed=SEED, settings=SETTINGS)
    predictor.pretrain(encode(space, table.table)[:, mask], np.stack(list(table.labels.values()), axis=1))
    return predictor


def _fit(predictor: AccuracyPredictor, space: SearchSpace, table: TableSpace, pairs: Booleans) -> None:
    """Fit a predictor to every training of some pairs. What it was fitted to before is forgotten."""
    rows = np.flatnonzero(pairs)
    trained = encode(space, np.repeat(table.table[rows], table.trainings[rows], axis=0))
    predictor.fit(trained, table.judged[rows][table.exists(rows)])


def _ceiling(table: TableSpace, which: Booleans) -> float | None:
    several = table.judged[which & (table.trainings > 1)]
    return rank(several[:, 0], several[:, 1]) if table.judged.shape[1] > 1 else None


def rank(a: Floats, b: Floats) -> float | None:
    """Return Spearman's rank correlation; None of fewer than three values, or of equal ones alone."""
    return float(spearmanr(a, b).statistic) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else None
