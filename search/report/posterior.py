"""What the predictor of a search believes about candidates that were never trained, and how sure it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbnetv3.search.nars.algorithm import fit_trials
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.pretrain import pretrained_predictor
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.encoding import Columns, encode
from fbnetv3.search.space.space import Floats, IntMatrix, IntVector, SearchSpace
from fbnetv3.search.trial import Trial

POOL = 1000  # feasible candidates that are looked at: pretraining on the pool of a large search would take minutes
DRAWS = 64  # functions that are drawn from the posterior
# The default predictor, whatever the search used: the paper's network does not say how sure it is. Fewer members save time.
SETTINGS = PredictorSettings(members=4)


@dataclass(frozen=True, eq=False)
class Posterior:
    """A fitted predictor, with feasible candidates to ask it about.

    Attributes:
        rows: index rows of different feasible candidates [n, d], in random order.
        costs: their figures of the search's constraint [n].
    """

    space: SearchSpace
    predictor: AccuracyPredictor
    rows: IntMatrix
    costs: IntVector
    seed: int

    @classmethod
    def of(cls, context: Context, trials: Sequence[Trial], epochs: int) -> Posterior:
        """Fit a predictor to the trials of a search, by their accuracies after `epochs` epochs.

        Raises:
            InputError: a space with too few feasible candidates.
        """
        config = context.config
        settings = dataclasses.replace(config, predictor=SETTINGS, pool=min(config.pool, POOL))
        context = dataclasses.replace(context, config=settings)
        predictor = pretrained_predictor(context)
        fit_trials(context, predictor, trials, epochs)
        # Neighbours in a Sobol sequence depend on each other, so its order must not be used.
        rows = np.random.default_rng(config.seed).permutation(context.pool())
        return cls(context.space, predictor, rows, config.constraint.values(context.space, rows), config.seed)

    def pair(self, archs: IntMatrix, recipes: IntMatrix) -> IntMatrix:
        """Return rows with the architectures of some rows and the recipes of others; both broadcast."""
        return np.where([c.arch for c in self.space.coordinates], archs, recipes)

    def different(self, n: int, *, arch: bool) -> IntMatrix:
        """Return the first rows, at most `n`, whose architectures are all different; without `arch`, whose recipes are."""
        part = self.rows[:, [c.arch == arch for c in self.space.coordinates]]
        return self.rows[np.sort(np.unique(part, axis=0, return_index=True)[1])[:n]]

    def mean(self, rows: IntMatrix) -> Floats:
        """Return the predicted accuracy of index rows [..., d] in percent."""
        return self.predictor.predict(self._encode(rows))[0].reshape(rows.shape[:-1])

    def draw(self, rows: IntMatrix) -> Floats:
        """Return accuracies [DRAWS, ...] of index rows [..., d] without noise: joint draws of the posterior."""
        return self.predictor.draw(self._encode(rows), DRAWS, self.seed).reshape(DRAWS, *rows.shape[:-1])

    def train_twice(self, rows: IntMatrix) -> Floats:
        """Return the accuracies [DRAWS, 2, ...] of two trainings of each of the index rows [..., d]."""
        both = self._encode(np.stack([rows, rows]))
        return self.predictor.draw(both, DRAWS, self.seed, noisy=True).reshape(DRAWS, 2, *rows.shape[:-1])

    def _encode(self, rows: IntMatrix) -> Columns:
        return encode(self.space, rows.reshape(-1, rows.shape[-1]))
