"""Stage 2, constrained iterative optimisation: which candidates to train next, and for how long (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from fbnetv3.errors import InputError


def first_batch(n: int, m: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of a pool of `n` to train first: `m` random ones (section 4.1)."""
    return np.random.default_rng(seed).choice(n, m, replace=False)


def promising_batch(members: npt.NDArray[np.float64], tried: npt.NDArray[np.bool_], m: int) -> npt.NDArray[np.int64]:
    """Rows of the pool to train next: those of the highest predicted accuracy, by the members of the ensemble in turn.

    Each member names its favourite among the rows that are left. Where they agree this is the top of the mean; where they
    do not, the batch covers what the few trials so far leave open, instead of `m` near-copies of one guess.

    Args:
        members: predicted accuracy [members, pool].
        tried: rows that must not be chosen again [pool].

    Raises:
        InputError: fewer than `m` rows are left.
    """
    if (~tried).sum() < m:
        raise InputError(f"the pool has {(~tried).sum()} candidates left, a batch needs {m}; give a larger pool")
    left, chosen = ~tried, []
    for i in range(m):
        scores = np.where(left, members[i % len(members)], -np.inf)
        chosen.append(int(scores.argmax()))
        left[chosen[-1]] = False
    return np.array(chosen)


def early_stopping_epoch(curves: Sequence[Sequence[float]], threshold: float, epochs: int) -> int:
    """The first epoch after which the ranking of the first batch agrees with its final one (Figure 5).

    Args:
        curves: accuracy after every epoch, one list a training; diverged ones (empty) are left out.
        threshold: Spearman's rank correlation with the last epoch that must be reached, e.g. 0.92.
        epochs: the length of the trainings.

    Returns:
        The epoch, from 1; the last one if no earlier epoch reaches the threshold or fewer than three trainings ended well.
    """
    table = np.array([curve for curve in curves if len(curve)])
    if len(table) < 3:
        return epochs
    for epoch in range(epochs - 1):
        column = table[:, epoch]
        if np.ptp(column) > 0 and spearmanr(column, table[:, -1])[0] >= threshold:
            return epoch + 1
    return epochs
