"""A model of learning curves: what the first epochs of a training tell about its accuracy after the last one.

Deviation from the paper, whose trainings all stop at the same epoch. Complete curves of the same search teach Gaussian
processes how the final accuracy follows from the first epochs. It need not rise with them: a large network or a small learning
rate starts late. The processes are those of the accuracy predictor: they work with few curves, and know how sure they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from fbnetv3.search.predictor.gaussian_process import GaussianProcessHead
from fbnetv3.search.predictor.kernel import Floats

FEWEST = 8  # complete curves; fewer cannot tell
CHECKS = 10  # a training is looked at after every tenth of its epochs
MEMBERS = 4  # draws from the posterior of the hyperparameters
# Spearman's correlation of the final accuracies with what the other curves predict for each of them. It must surely be as
# high: its lower end counts, one standard error of Fisher's z below it.
RANKS = 0.5


class Final(NamedTuple):
    """What is expected after the last epoch, in percentage points.

    Attributes:
        mean: expected accuracy.
        std: of the accuracy that the training will have.
        std_of_mean: of the expected accuracy of such trainings, without their noise.
    """

    mean: float
    std: float
    std_of_mean: float


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """The complete curves of a search, and what they tell about a training that has only begun. Make it with `of`.

    Attributes:
        curves: accuracies in percent [n, epochs].
        seed: of the draws. The same curves, seed and number of threads give the same numbers.
    """

    curves: Floats
    seed: int
    # By epoch, fitted when they are asked for the first time; None where the curves cannot tell.
    _heads: dict[int, list[GaussianProcessHead] | None] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, curves: Sequence[Sequence[float]], epochs: int, seed: int) -> LearningCurves:
        """Return the model of the curves that have `epochs` epochs. All others are left out.

        Args:
            curves: accuracy in percent after every epoch, a sequence for each training.
        """
        complete = [curve for curve in curves if len(curve) == epochs]
        return cls(np.array(complete, float).reshape(len(complete), epochs), seed)

    @property
    def checks(self) -> range:
        """Epochs after which a training is looked at: every tenth of all epochs, or every epoch if there are at most ten."""
        epochs = self.curves.shape[1]
        step = math.ceil(epochs / CHECKS)
        return range(step, epochs, step)

    def final(self, acc1: Sequence[float]) -> Final | None:
        """Return what is expected of a training after the last epoch, or None if the curves cannot tell.

        They cannot if there are fewer than `FEWEST`, if their final accuracies are all equal, or if so many epochs do not rank
        them: when every curve is predicted from the others, the order must agree with the true one.

        Args:
            acc1: accuracies in percent after every epoch so far, at least one and fewer than all epochs.
        """
        if (heads := self._fitted(len(acc1))) is None:
            return None
        groups = [_summary(np.array([acc1], float))]
        (means, variances), plain = (
            np.stack([h.predict(groups, noisy) for h in heads], axis=1) for noisy in (True, False)
        )
        # What so many curves leave open of the noise itself, which was fitted to them: the variance of Student's t.
        freedom = len(self.curves) - groups[0].shape[1] - 1
        wider = freedom / (freedom - 2)
        spreads = (math.sqrt(wider * float(means.var() + within.mean())) for within in (variances, plain[1]))
        return Final(float(means.mean()), *spreads)

    def _fitted(self, epoch: int) -> list[GaussianProcessHead] | None:
        if epoch not in self._heads:
            self._heads[epoch] = self._fit(epoch)
        return self._heads[epoch]

    def _fit(self, epoch: int) -> list[GaussianProcessHead] | None:
        final = self.curves[:, -1]
        if len(final) < FEWEST or np.ptp(final) == 0:
            return None
        heads = GaussianProcessHead.fit_members([_summary(self.curves[:, :epoch])], final, MEMBERS, self.seed)
        left_out = np.mean([head.processes[0].left_out() for head in heads], axis=0)
        least = math.tanh(math.atanh(RANKS) + 1 / math.sqrt(len(final) - 3))
        return heads if np.ptp(left_out) > 0 and spearmanr(left_out, final)[0] >= least else None


def _summary(curves: Floats) -> Floats:
    """Return what counts of the first epochs of curves [n, 3]: means of the last quarter and first half, and the highest."""
    n = curves.shape[1]
    last, first = curves[:, -max(1, n // 4) :], curves[:, : max(1, n // 2)]
    return np.stack([last.mean(axis=1), first.mean(axis=1), curves.max(axis=1)], axis=1)
