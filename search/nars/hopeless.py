"""Early stopping by a model of learning curves: which trainings end early, and what the predictor learns from those.

Deviation from section 3.3, where all trainings stop at one epoch and are compared there (`early_stopping.py`). Here a training
ends as soon as it will hardly become one of the best few. All others train to the end. So the answer is never chosen by the
accuracy of an early epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from fbnetv3.search.predictor.learning_curve import LearningCurves
from fbnetv3.search.space.space import Floats
from fbnetv3.search.trial import Trial, completed, evaluated, in_rounds

# The highest final accuracy may be luck. And only trainings that reach their end teach the model: more of the good ones do.
BEST_FEW = 3


@dataclass(frozen=True, eq=False)
class Hopeless:
    """Ends a training that will hardly become one of the best few: what a job is given as its `stop`.

    Attributes:
        curves: the complete curves of earlier trainings.
        limit: the lowest final accuracy of the best `BEST_FEW` among them, in percent.
        chance: a training ends if it exceeds the limit with a smaller probability.
    """

    curves: LearningCurves
    limit: float
    chance: float

    def __call__(self, acc1: Sequence[float]) -> bool:
        """Tell whether a training with these accuracies in percent, one for every epoch so far, ends here."""
        final = self.curves.final(acc1) if len(acc1) in self.curves.checks else None
        # Far below all curves, the std may be 0, and `NormalDist` takes none of 0.
        return final is not None and NormalDist(final.mean, max(final.std, 1e-9)).cdf(self.limit) > 1 - self.chance


def hopeless(trials: Sequence[Trial], epochs: int, chance: float, seed: int) -> Hopeless | None:
    """Return the rule for the next trainings, or None if no trial has a complete curve.

    Args:
        trials: all trials so far.
        epochs: length of a complete training.
        chance: as in `Hopeless`.
        seed: as in `LearningCurves`.
    """
    curves = complete_curves(trials, epochs, seed)
    best = np.sort(curves.curves[:, -1])[-BEST_FEW:]
    return Hopeless(curves, float(best[0]), chance) if len(best) else None


def complete_curves(trials: Sequence[Trial], epochs: int, seed: int) -> LearningCurves:
    """Return the model of the complete trainings among trials."""
    return _model(tuple(tuple(trial.acc1) for trial in completed(trials)), epochs, seed)


# The labels of a round and the rule of the next one have the same curves, and need the same fits.
@functools.lru_cache(maxsize=1)
def _model(curves: tuple[tuple[float, ...], ...], epochs: int, seed: int) -> LearningCurves:
    return LearningCurves.of(curves, epochs, seed)


class Labels(NamedTuple):
    """What the predictor learns from trials.

    Attributes:
        trials: those that say something about their candidate.
        accuracies: in percent [n].
        variance: of extrapolated accuracies, in points squared, and 0 for measured ones [n]; None if all are measured.
    """

    trials: list[Trial]
    accuracies: Floats
    variance: Floats | None


def labels_of(trials: Sequence[Trial], epochs: int, guessing: float, seed: int) -> Labels:
    """Return what the predictor learns from trials that did not fail. Their order makes no difference: sums are rounded alike.

    A stopped training counts with the accuracy that the model expects of it, and with its variance. One of which the model
    cannot tell anything is left out.

    Args:
        epochs: after which trials are compared. One that was planned to be shorter counts with its last accuracy.
        guessing: accuracy of a training that diverged, in percent.
        seed: as in `LearningCurves`.
    """
    used = in_rounds(evaluated(trials))
    if not any(trial.stopped for trial in used):
        return Labels(used, np.array([_measured(trial, epochs, guessing) for trial in used]), None)
    curves = complete_curves(used, epochs, seed)
    kept, rows = list[Trial](), list[tuple[float, float]]()
    for trial in used:
        final = curves.final(trial.acc1) if trial.stopped else None
        if final is not None:
            rows.append((final.mean, final.std_of_mean**2))
        elif not trial.stopped:
            rows.append((_measured(trial, epochs, guessing), 0.0))
        else:
            continue
        kept.append(trial)
    accuracies, variance = np.array(rows).T
    return Labels(kept, accuracies, variance)


def _measured(trial: Trial, epochs: int, guessing: float) -> float:
    return trial.acc1[min(epochs, trial.epochs) - 1] if trial.status == "ok" else guessing
