"""What a report says of trials, as numbers: rounds, predictions, the front, convergence, noise.

Trials are compared by their accuracy after the same number of epochs, that of the early stopping (section 3.3), also
those that trained longer. Those that diverged or failed are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.search.nars.algorithm import REPEATS
from fbnetv3.search.nars.select import agreement
from fbnetv3.search.trial import Trial

METHODS = {"nars": "NARS", "random": "random search"}
Floats = npt.NDArray[np.float64]


def measured(trials: Iterable[Trial]) -> list[Trial]:
    """Those that ended well."""
    return [t for t in trials if t.status == "ok" and t.acc1]


def accuracies(trials: Iterable[Trial], epochs: int) -> list[float]:
    """Validation accuracy after `epochs`, or the last of a shorter trial, of those that ended well."""
    return [t.acc1[min(epochs, len(t.acc1)) - 1] for t in measured(trials)]


def predictions(trials: Iterable[Trial], epochs: int) -> Any:
    """Predicted mean, its deviation and measured accuracy, an array [n, 3], of the trials that have them."""
    rows = [(*t.predicted, *accuracies([t], epochs)) for t in measured(trials) if t.predicted is not None]
    return np.array(rows, float).reshape(-1, 3)


def summary(trials: Sequence[Trial], epochs: int) -> list[str]:
    """A round's cells of the table, '-' for what cannot be computed: trainings, epochs, diverged, failed, best, median,
    mean predicted, rank correlation, mean error.
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


def by_round(trials: Iterable[Trial]) -> dict[int, list[Trial]]:
    """Trials of every round, both in order; the repeats come after the first batch, which they repeat."""
    rounds: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.round or 1, t.round == REPEATS, t.index)):
        rounds.setdefault(trial.round, []).append(trial)
    return rounds


def repeated_accuracies(trials: Iterable[Trial]) -> Floats:
    """Last accuracies of the candidates of the first batch that were repeated: [seeds, candidates], NaN if failed.

    What `optimize.noise_ceiling` takes. Empty if nothing was repeated.
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
    """After every training: all epochs spent so far, and the best accuracy, NaN before the first that ended well."""

    epochs: npt.NDArray[np.int64]
    best: Floats


def convergence(trials: Iterable[Trial], epochs: int) -> Convergence:
    """The best so far, in the order of rounds; repeats cost epochs but are no candidates."""
    ordered = [t for batch in by_round(trials).values() for t in batch]
    values = [accuracies([t], epochs) if t.round != REPEATS else [] for t in ordered]
    best = np.fmax.accumulate(np.array([value[0] if value else math.nan for value in values], float))
    # A diverged training may have ended at any epoch; it counts with all that it was given.
    return Convergence(np.cumsum([len(t.acc1) or t.epochs for t in ordered]), best)


def pareto_front(cost: Floats, value: Floats) -> npt.NDArray[np.int64]:
    """Which points no other one beats: those of a higher value than all that cost as much or less, cheapest first."""
    order = np.lexsort((-value, cost))
    highest = np.maximum.accumulate(np.concatenate([[-np.inf], value[order]]))[:-1]
    return order[value[order] > highest]


def errors(trials: Iterable[Trial], most: int = 5) -> list[str]:
    """The first different error texts of failed trainings, with where they happened."""
    found: dict[str, str] = {}
    for number, batch in by_round(trials).items():
        for t in batch:
            if t.status == "failed":
                found.setdefault(t.error or "no text was kept", f"round {number}, candidate {t.index}")
    return [f"{where}: {text}" for text, where in list(found.items())[:most]]
