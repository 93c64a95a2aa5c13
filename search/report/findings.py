"""What the trials of a search tell about the space: which part of a pair matters, and which recipe which network wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.early_stopping import trial_epochs
from fbnetv3.search.report.analysis import Coverage, accuracies, coverage, measured, predictions
from fbnetv3.search.report.importance import Importance, permutation_importance
from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.report.recipes import SIZES, SURE, Preference, Recipes, recipes_by_size
from fbnetv3.search.report.variance import INTERVAL, PARTS, Decomposition, Flips, decompose, rank_flips
from fbnetv3.search.runs.folder import SearchFolder
from fbnetv3.search.space.space import Floats
from fbnetv3.search.trial import Trial
from fbnetv3.training.engine import cpu_threads


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found. What the trials cannot tell is None.

    Attributes:
        importance: of the coordinates.
        parts: of the variance: architecture, recipe, both together, noise.
        flips: how often the ranking of architectures changes.
        recipes: what small and large networks want.
        calibration: how often predictions came out inside their intervals.
        posterior: what all of this was asked of.
    """

    importance: Importance | None = None
    parts: Decomposition | None = None
    flips: Flips | None = None
    recipes: Recipes | None = None
    calibration: Coverage | None = None
    posterior: Posterior | None = None


def find(context: Context, trials: Sequence[Trial], epochs: int) -> Findings:
    """Return what the trials of a search tell, each by its accuracy after `epochs` epochs.

    Where a predictor does not explain trials that it has not seen, nothing is said about the space.
    """
    ordered = sorted(measured(trials), key=lambda t: t.place)
    index = np.array([t.candidate for t in ordered], np.int64).reshape(-1, len(context.space.coordinates))
    # One thread, as in the search: the same trials give the same page, to the last bit.
    with cpu_threads(1):
        values = np.array(accuracies(ordered, epochs))
        importance = permutation_importance(context.space, index, values, context.config.seed)
        if importance is None or importance.explained.mean() <= 0:
            return Findings(importance, calibration=coverage(predictions(trials, epochs)))
        posterior = Posterior.of(context, trials, epochs)
        parts, several = decompose(posterior), [c for c in context.space.coordinates if len(c.values) > 1]
        # With architectures or recipes alone there is nothing that could depend on the other.
        joint = len({c.arch for c in several}) == 2
        return Findings(
            importance,
            parts,
            rank_flips(posterior) if joint else None,
            recipes_by_size(posterior) if joint else None,
            coverage(predictions(trials, epochs)),
            posterior,
        )


def find_in(search: SearchFolder) -> Findings:
    """Return what the trials of NARS tell so far, of a search that has ended or not.

    Raises:
        InputError: no ledger, or a damaged one.
    """
    context, config, trials = search.context, search.config, search.trials()
    epochs = trial_epochs(trials, config, context.base.epochs)
    return find(context, trials, epochs)


def interval(values: Floats) -> tuple[float, float, float]:
    """Return the ends and the middle of the interval that holds 90% of draws: low, median, high."""
    low, middle, high = np.percentile(values, INTERVAL)
    return float(low), float(middle), float(high)


def wanted_words(preference: Preference, size: int) -> str:
    """Return the values that networks of a size want, with the share of the draws in which one of them is the best."""
    chosen, shares = preference.wanted(size), preference.shares(size)
    if len(chosen) == len(preference.values):
        return "no clear preference"
    values = [value_words(preference.values[i]) for i in chosen]
    words = " or ".join(values)
    if preference.ordered and len(values) > 1:
        words = f"{values[0]} to {values[-1]}"
    return f"{words} ({shares[list(chosen)].sum():.0%})"


def shift_words(preference: Preference) -> str:
    """Return what large networks want that small ones do not."""
    lower, higher = preference.shift
    if max(lower, higher) < SURE:
        return "no clear difference"
    if not preference.ordered:
        return f"another one for large networks ({higher:.0%})"
    return f"{'higher' if higher > lower else 'lower'} for large networks ({max(lower, higher):.0%})"


def value_words(value: Any) -> str:
    """Return a value of a coordinate as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def as_data(findings: Findings) -> dict[str, Any]:
    """Return everything as plain data, for other programs; parts that are unknown are empty."""
    parts, flips, recipes, importance = findings.parts, findings.flips, findings.recipes, findings.importance
    return {
        "variance": [] if parts is None else [_part(parts, i) for i in range(len(PARTS))],
        "noise": None if parts is None else _named(parts.noise),
        "flips": []
        if flips is None
        else [{"with": name, **_named(getattr(flips, name))} for name in ("recipes", "seeds")],
        "recipes": [] if recipes is None else [_preference(p) for p in recipes.preferences],
        "swapped": []
        if recipes is None
        else [
            {"networks": size, "limit": recipes.limits[i], **_named(recipes.swapped[:, i])}
            for i, size in enumerate(SIZES)
        ],
        # What explains nothing has no important coordinates, only noise.
        "coordinates": _coordinates(importance) if importance and importance.explained.mean() > 0 else [],
        "explained": None if importance is None else float(importance.explained.mean()),
        "calibration": [] if findings.calibration is None else findings.calibration.rows(),
    }


def _part(parts: Decomposition, i: int) -> dict[str, Any]:
    better = _named(parts.better[:, i]) if i < parts.better.shape[1] else dict.fromkeys(("low", "median", "high"))
    return {"part": PARTS[i], **_named(parts.whole[:, i]), **{f"better_{key}": value for key, value in better.items()}}


def _named(values: Floats) -> dict[str, float]:
    return dict(zip(("low", "median", "high"), (round(value, 4) for value in interval(values)), strict=True))


def _preference(preference: Preference) -> dict[str, Any]:
    wants = {size: wanted_words(preference, i) for i, size in enumerate(SIZES)}
    gains = {f"gain_{size}": round(float(preference.gain[i]), 3) for i, size in enumerate(SIZES)}
    return {"coordinate": preference.name, **wants, "difference": shift_words(preference), **gains}


def _coordinates(importance: Importance) -> list[dict[str, Any]]:
    mean, std = importance.loss.mean(axis=0), importance.loss.std(axis=0)
    order = np.argsort(-mean, kind="stable")
    return [
        {"coordinate": importance.names[i], "importance": round(float(mean[i]), 4), "std": round(float(std[i]), 4)}
        for i in order
    ]
