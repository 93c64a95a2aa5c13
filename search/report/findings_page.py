"""The part of the page that says what the trials tell about the space, with its plots."""

from __future__ import annotations

from typing import Any

import numpy as np

from fbnetv3.pages.markup import figure, fill, table
from fbnetv3.pages.plots import GREY, Plot, count, finish, plot_axes, style
from fbnetv3.search.report import template as words
from fbnetv3.search.report.analysis import LEVELS, Coverage
from fbnetv3.search.report.figures import plot_importance
from fbnetv3.search.report.findings import Findings, interval, shift_words, value_words, wanted_words
from fbnetv3.search.report.plots import COLORS
from fbnetv3.search.report.recipes import SIZES, SURE, Recipes
from fbnetv3.search.report.variance import MEANINGS, PARTS, Decomposition, Flips
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.search.space.space import Floats

PANELS = 6  # coordinates that are drawn, at most
SIZE_COLORS = (COLORS["nars"], COLORS["random"])


def findings_plots(findings: Findings) -> list[Plot]:
    """Return the plots of the part: variance, recipes by size, importance; without an image where nothing is known."""
    return [plot_parts(findings.parts), plot_wishes(findings.recipes), plot_importance(findings.importance)]


def findings_section(findings: Findings, plots: list[Plot], space: NetworkSpace, metric: str) -> str:
    """Return the part of the page; only the reason where the trials tell nothing."""
    parts_plot, wishes_plot, importance = plots
    if findings.parts is None or findings.importance is None:
        return figure(importance)
    rows = []
    for i, (part, meaning) in enumerate(zip(PARTS, MEANINGS, strict=True)):
        better = share_words(findings.parts.better[:, i]) if i < findings.parts.better.shape[1] else "-"
        rows.append([part, share_words(findings.parts.whole[:, i]), better, meaning])
    joint = ""
    if findings.recipes is not None and findings.flips is not None:
        joint = _joint(findings.recipes, findings.flips, wishes_plot, space, metric)
    text = {
        "explained": f"{findings.importance.explained.mean():.0%}",
        "summary": summary_words(findings.parts),
    }
    markup = {
        "parts": table(words.PARTS_HEAD, rows, "words"),
        "parts_plot": figure(parts_plot),
        "joint": joint,
        "importance": figure(importance),
    }
    return fill(words.FOUND, text, markup)


def _joint(recipes: Recipes, flips: Flips, plot: Plot, space: NetworkSpace, metric: str) -> str:
    rows = [
        [p.name.replace("_", " "), *(wanted_words(p, i) for i in (0, 1)), shift_words(p)] for p in recipes.preferences
    ]
    text = {
        "small": f"{recipes.limits[0]:,}",
        "large": f"{recipes.limits[1]:,}",
        "metric": "FLOPs" if metric == "flops" else "parameters",
        "sure": f"{SURE:.0%}",
        "swap_small": points_words(recipes.swapped[:, 0]),
        "swap_large": points_words(recipes.swapped[:, 1]),
        "flips_recipes": share_words(flips.recipes),
        "flips_seeds": share_words(flips.seeds),
        "tau": f"{1 - 2 * np.median(flips.recipes):.2f}",
    }
    by_name = {c.name: c for c in space.coordinates if not c.arch}
    sgd = "lr" in by_name and "optimizer" in by_name and space.sgd_lr_factor != 1
    factor = fill(words.FACTOR, {"factor": f"{space.sgd_lr_factor:g}"}, {}) if sgd else ""
    markup = {"wishes": table(words.WISHES_HEAD, rows, "words"), "wishes_plot": figure(plot), "factor": factor}
    return fill(words.JOINT, text, markup)


def calibration_section(found: Coverage | None) -> str:
    """Return how often predictions came out inside their intervals; nothing where none was made."""
    if found is None:
        return ""
    text = {
        "trials": count(found.trials, "training"),
        "inside": ", ".join(f"{share:.0%}" for share in found.inside),
        "levels": ", ".join(f"{level:.0%}" for level in LEVELS),
    }
    return fill(words.CALIBRATION, text, {})


def share_words(shares: Floats) -> str:
    """Return the median of shares and the ends of their interval, in percent."""
    low, middle, high = interval(shares)
    return f"{middle:.0%} ({low:.0%} to {high:.0%})"


def points_words(points: Floats) -> str:
    """Return the median of losses in points with their interval, or that there is hardly a loss."""
    low, middle, high = (round(value, 1) + 0.0 for value in interval(points))  # -0.0 becomes 0.0
    if not points.any():
        return "nothing, because it is best for them too"
    if high <= 0:
        return "nothing"
    unsure = ": it is not sure that they lose at all" if low < 0 else ""
    return f"{middle:.1f} points ({low:.1f} to {high:.1f}{unsure})"


def summary_words(parts: Decomposition) -> str:
    """Say in one or two sentences which part is the largest, and what the interaction means."""
    middle = np.median(parts.whole, axis=0)
    low, _, high = interval(parts.whole[:, 2])
    best = ("the architecture", "the recipe", "the pairing of architecture and recipe", "the noise of a training")
    return (
        f"Most of the variance is due to {best[int(middle.argmax())]} ({middle.max():.0%}). What a recipe gains depends on "
        f"the architecture: this explains {low:.0%} to {high:.0%}. Trainings of the same pair have a standard deviation of "
        f"about {np.median(parts.noise):.1f} points."
    )


def plot_parts(parts: Decomposition | None) -> Plot:
    """Plot the parts of the variance, over all candidates and in the better half."""
    title = "Variance by architecture and recipe"
    if parts is None:
        return Plot("variance", title, "The trials do not tell.", None)
    axes = plot_axes("share of the variance (%)", "")
    for shares, shift, color, label in (
        (parts.whole, -0.19, COLORS["nars"], "all candidates"),
        (parts.better, 0.19, GREY, "better half, without noise"),
    ):
        low, middle, high = 100 * np.array([interval(column) for column in shares.T]).T
        place = np.arange(len(middle)) + shift
        axes.barh(
            place,
            middle,
            0.34,
            xerr=(middle - low, high - middle),
            color=color,
            alpha=0.75,
            ecolor="#333333",
            label=label,
        )
    axes.set_yticks(range(len(PARTS)), [part.replace(" ", "\n", 1) for part in PARTS])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    return finish("variance", title, "The numbers of the table. Lines are the intervals.", axes, below_axes=True)


def plot_wishes(recipes: Recipes | None) -> Plot:
    """Plot what every recipe coordinate does to the accuracy of small and of large networks."""
    title = "What recipes do to small and to large networks"
    if recipes is None:
        return Plot("recipes_by_size", title, "All networks have one size, or there is nothing to choose.", None)
    shown = recipes.preferences[:PANELS]
    axes = _panels(len(shown))
    for panel, preference in zip(axes, shown, strict=True):
        x = np.arange(len(preference.values))
        for i, (size, color) in enumerate(zip(SIZES, SIZE_COLORS, strict=True)):
            low, middle, high = np.array([interval(column) for column in preference.effect[:, i].T]).T
            panel.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
            panel.plot(x, middle, "os"[i] + "-", color=color, markersize=3.5, label=f"{size} networks")
        panel.set_title(preference.name.replace("_", " "), fontsize=9)
        panel.set_xticks(x, [value_words(value) for value in preference.values], fontsize=7.5)
        panel.tick_params(axis="y", labelsize=7.5)
        panel.margins(x=0.12)
    axes[0].figure.supylabel("accuracy, points from the mean", fontsize=9)
    caption = (
        "Predicted accuracy with each value, minus the mean over the values, for good recipes and all else equal. Bands are "
        "the intervals. Where the highest points of the two lines differ, small and large networks want different values."
    )
    return finish("recipes_by_size", title, caption, axes[0], below_axes=True)


def _panels(n: int) -> list[Any]:
    from matplotlib.figure import Figure

    columns = min(n, 2)
    rows = -(-n // columns)
    grid = Figure(figsize=(5.2, 0.8 + 1.7 * rows), dpi=180, layout="constrained").subplots(rows, columns, squeeze=False)
    for axes in grid.flat[n:]:
        axes.remove()
    return [style(axes) for axes in grid.flat[:n]]
