"""Which coordinates of a space matter to accuracy, as far as the trials of a search can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fbnetv3.search.predictor.model import AccuracyPredictor, PredictorSettings
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import IntMatrix, SearchSpace

FEWEST = 20  # trials; fewer say nothing
FOLDS, REPEATS = 5, 5


@dataclass(frozen=True, eq=False)
class Importance:
    """Of every coordinate, by repeat: by how much less of the variance is explained when its values are shuffled."""

    names: tuple[str, ...]
    loss: npt.NDArray[np.float64]  # [repeats, coordinates], shares of the variance; below 0 by chance
    explained: npt.NDArray[np.float64]  # [repeats], the share explained when nothing is shuffled


def permutation_importance(
    space: SearchSpace, index: IntMatrix, accuracies: npt.NDArray[np.float64], seed: int
) -> Importance | None:
    """Breiman's permutation importance, on trials that the model has not seen.

    The model is the accuracy head alone (one member, no pretraining), fitted to four fifths of the trials; on the other
    fifth the values of one coordinate at a time are replaced by those of other trials. Repeats draw other folds and
    shuffles. Coordinates that the trials vary together share their importance.

    Args:
        index: index rows of the trials [n, d].
        accuracies: what they reached, in percent [n].

    Returns:
        None of fewer than `FEWEST` trials or of equal accuracies.
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


def _errors(
    space: SearchSpace, index: IntMatrix, accuracies: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Squared errors on unseen trials with each coordinate shuffled, and in the last place with none, [d + 1]."""
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
    errors: npt.NDArray[np.float64] = ((predicted - accuracies) ** 2).sum(axis=1)
    return errors
