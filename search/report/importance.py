"""Which coordinates of a space matter for the accuracy, as far as the trials of a search can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import Floats, IntMatrix, SearchSpace

FEWEST = 20  # trials that are needed
FOLDS, REPEATS = 5, 5


@dataclass(frozen=True, eq=False)
class Importance:
    """How much of the variance is lost when the values of a coordinate are shuffled.

    Attributes:
        names: the coordinates.
        loss: loss of explained variance [repeats, coordinates], as a share of the variance. It may be below 0 by chance.
        explained: share of the variance that is explained when nothing is shuffled [repeats].
    """

    names: tuple[str, ...]
    loss: Floats
    explained: Floats


def permutation_importance(space: SearchSpace, index: IntMatrix, accuracies: Floats, seed: int) -> Importance | None:
    """Return Breiman's permutation importance, computed on trials that the model has not seen.

    The model is the accuracy head alone (one member, no pretraining). It is fitted to four fifths of the trials. On the other
    fifth, the values of one coordinate at a time are replaced by those of other trials. Every repeat draws other folds and
    shuffles. Coordinates that vary together in the trials share their importance.

    Args:
        index: index rows of the trials [n, d].
        accuracies: their accuracies in percent [n].

    Returns:
        None for fewer than `FEWEST` trials, and where all accuracies are equal.
    """
    if len(index) < FEWEST or np.ptp(accuracies) == 0:
        return None
    rng = np.random.default_rng(seed)
    total = float(((accuracies - accuracies.mean()) ** 2).sum())
    explained, loss = [], []
    for _ in range(REPEATS):
        errors = _errors(space, index, accuracies, rng)
        explained.append(1 - errors[-1] / total)
        loss.append((errors[:-1] - errors[-1]) / total)
    return Importance(tuple(c.name for c in space.coordinates), np.array(loss), np.array(explained))


def _errors(space: SearchSpace, index: IntMatrix, accuracies: Floats, rng: np.random.Generator) -> Floats:
    """Return the squared errors on unseen trials with each coordinate shuffled and, in the last place, with none [d + 1]."""
    coordinates = index.shape[1]
    shuffled = np.repeat(index[None], coordinates + 1, axis=0)
    for j in range(coordinates):
        shuffled[j, :, j] = rng.permutation(index[:, j])
    predicted = np.empty(shuffled.shape[:2])
    for held_out in np.array_split(rng.permutation(len(index)), FOLDS):
        rest = np.setdiff1d(np.arange(len(index)), held_out)
        model = AccuracyPredictor(arch_mask(space), seed=0, settings=PredictorSettings(members=1))
        model.fit(encode(space, index[rest]), accuracies[rest].astype(np.float64))
        rows = shuffled[:, held_out].reshape(-1, coordinates)
        predicted[:, held_out] = model.predict(encode(space, rows))[0].reshape(coordinates + 1, -1)
    errors: Floats = ((predicted - accuracies) ** 2).sum(axis=1)
    return errors
