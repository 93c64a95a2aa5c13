"""The numbers of a report: rounds, predictions, convergence and noise of trials.

All trials are compared by their accuracy after the same number of epochs, which early stopping chose (section 3.3), even if
they trained longer. Trials that diverged or failed are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from fbnetv3.search.nars.early_stopping import agreement
from fbnetv3.search.space.space import Floats, IntVector
from fbnetv3.search.trial import REPEATS, Trial, in_rounds


def measured(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials whose accuracies can be compared: neither diverged, nor failed, nor stopped as hopeless."""
    return [t for t in trials if t.status == "ok" and t.acc1 and not t.stopped]


def accuracies(trials: Iterable[Trial], epochs: int) -> list[float]:
    """Return the validation accuracies of measured trials after `epochs` epochs, or after the last epoch of a shorter trial."""
    return [t.acc1[min(epochs, len(t.acc1)) - 1] for t in measured(trials)]


def predictions(trials: Iterable[Trial], epochs: int) -> Any:
    """Return predicted mean, predicted std and measured accuracy [n, 3] of the trials that have them."""
    rows = [(*t.predicted, *accuracies([t], epochs)) for t in measured(trials) if t.predicted is not None]
    return np.array(rows, float).reshape(-1, 3)


def summary(trials: Sequence[Trial], epochs: int) -> list[str]:
    """Return the cells of a round in the table, '-' for what cannot be computed.

    They are: trainings, epochs, diverged, failed, best, median, mean predicted, rank correlation, mean error.
    """
    values, pairs = accuracies(trials, epochs), predictions(trials, epochs)
    cells = [str(len(trials)), ", ".join(map(str, sorted({t.epochs for t in trials})))]
    cells += [str(sum(t.status == status for t in trials)) for status in ("diverged", "failed")]
    cells += [f"{max(values):.1f}%", f"{np.median(values):.1f}%"] if values else ["-", "-"]
    mean, truth = pairs[:, 0], pairs[:, 2]
    cells += [f"{mean.mean():.1f}%"] if len(pairs) else ["-"]
    correlation = agreement(mean, truth).spearman
    cells += ["-" if math.isnan(correlation) else f"{correlation:.2f}"]
    return cells + ([f"{np.abs(mean - truth).mean():.1f}"] if len(pairs) else ["-"])


LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Coverage:
    """How many trainings came out inside the interval that was predicted for them.

    Attributes:
        trials: number of trainings with a prediction.
        inside: share of them inside the interval of every one of `LEVELS`.
    """

    trials: int
    inside: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each interval."""
        return [
            {"interval": level, "inside": round(share, 4), "trials": self.trials}
            for level, share in zip(LEVELS, self.inside, strict=True)
        ]


def coverage(pairs: Floats) -> Coverage | None:
    """Return how often the intervals of predictions hold the measured accuracy; None without predictions.

    Args:
        pairs: what `predictions` returned [n, 3]. The predicted std is that of a single training.
    """
    if not len(pairs):
        return None
    mean, std, truth = pairs.T
    distance = np.abs(truth - mean) / np.maximum(std, 1e-9)
    inside = [float(np.mean(distance <= NormalDist().inv_cdf(0.5 + level / 2))) for level in LEVELS]
    return Coverage(len(pairs), tuple(inside))


def by_round(trials: Iterable[Trial]) -> dict[int, list[Trial]]:
    """Return the trials of every round in order. The repeats come after the first batch, whose candidates they repeat."""
    rounds: dict[int, list[Trial]] = {}
    for trial in in_rounds(trials):
        rounds.setdefault(trial.round, []).append(trial)
    return rounds


def repeated_accuracies(trials: Iterable[Trial]) -> Floats:
    """Return the last accuracies of the repeated candidates of the first batch [seeds, candidates], NaN where failed.

    `noise_ceiling` takes them. The array is empty if nothing was repeated.
    """
    runs: dict[tuple[int, ...], list[float]] = {}
    for number, batch in by_round(trials).items():
        for t in batch:
            key = tuple(t.candidate)
            if number == 1 or (number == REPEATS and key in runs):
                runs.setdefault(key, []).append(t.acc1[-1] if measured([t]) else math.nan)
    repeated = [values for values in runs.values() if len(values) > 1]
    seeds = max(map(len, repeated), default=0)
    table: Floats = np.full((seeds, len(repeated)), math.nan)
    for column, values in zip(table.T, repeated, strict=True):
        column[: len(values)] = values
    return table


@dataclass(frozen=True, eq=False)
class Convergence:
    """After every training: the epochs spent so far, and the best accuracy so far (NaN before the first measured trial)."""

    epochs: IntVector
    best: Floats


def convergence(trials: Iterable[Trial], epochs: int) -> Convergence:
    """Return the convergence in the order of rounds. Repeats cost epochs, but they are no new candidates."""
    ordered = in_rounds(trials)
    values = [accuracies([t], epochs) if t.round != REPEATS else [] for t in ordered]
    best = np.fmax.accumulate(np.array([value[0] if value else math.nan for value in values], float))
    # Nobody knows at which epoch a training diverged, so all of its epochs count.
    return Convergence(np.cumsum([len(t.acc1) or t.epochs for t in ordered]), best)


def errors(trials: Iterable[Trial], most: int = 5) -> list[str]:
    """Return the first `most` different error texts of failed trainings, each with the place where it happened."""
    found: dict[str, str] = {}
    for number, batch in by_round(trials).items():
        for t in batch:
            if t.status == "failed":
                found.setdefault(t.error or "no text was kept", f"round {number}, candidate {t.index}")
    return [f"{where}: {text}" for text, where in list(found.items())[:most]]
