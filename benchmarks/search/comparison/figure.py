"""The figures of `fbnetv3 search compare`: how good the best pair so far is, by trainings, for NARS and other methods."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fbnetv3.benchmarks.harness import Values
from fbnetv3.pages.plots import png_of, style
from fbnetv3.search.report.plots import COLORS

FAMILIES = {"rival": "", "order": "_orders", "ablation": "_ablations"}  # the ends of the figures' names
LOSS, ACCURACY = "points of accuracy below the best pair", "best validation accuracy so far (%)"
FONT = 8.5  # points
GREYS, DASHES = ("#4d4d4d", "#8c8c8c"), ("-", "--", ":", "-.")
LABELS = {  # of methods whose names a stranger would not understand
    "nars": "NARS",
    "tpe": "TPE",
    "gp": "Gaussian process",
    "cmaes": "CMA-ES",
    "smac": "SMAC3",
    "nars_scratch": "no pretraining",
    "nars_paper_labels": "FLOPs and parameters alone",
    "nars_no_stage3": "no stage 3",
    "nars_no_uncertainty": "no uncertainty",
    "nars_no_early_stopping": "no early stopping",
}
DECADES = 1000.0  # the largest regret of a panel divided by the smallest one that is shown


def plots(values: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the figures of a result's values as PNGs by their names: one for each budget and family of methods."""
    cases, found = values["cases"], {}
    budgets = dict.fromkeys(_budget(case) for case in cases.values()) if "overall" in values else [None]
    for budget, (family, end) in itertools.product(budgets, FAMILIES.items()):
        data = panels(cases, family, budget)
        if data:
            found[f"compare{end}{f'_flops_{budget}' if budget else ''}.png"] = png_of(draw_curves(data))
    return found


def panels(cases: Mapping[str, Mapping[str, Any]], family: str = "rival", budget: str | None = None) -> Values:
    """Return what a figure shows: a panel for every table and budget, with the case of the most trainings.

    Args:
        family: the methods besides NARS.
        budget: the only budget that is shown, as the names of cases have it; empty for none. By default all are shown.

    Returns:
        By the title of a panel: the mean curves of the methods, and the best accuracy of the table, if it is known.
    """
    chosen: dict[tuple[str, ...], tuple[str, Mapping[str, Any]]] = {}
    for name, case in cases.items():
        # Result files of earlier versions do not say which cases are of one table and budget.
        place = (case["table"], _budget(case)) if "table" in case else (name,)
        before = chosen.get(place)
        if budget in (None, place[-1]) and (before is None or before[1]["trainings"] < case["trainings"]):
            inside = f", flops {budget}" if budget else ""
            chosen[place] = (name if budget is None else case["table"] + inside, case)
    shown: dict[str, Values] = {
        title.replace("_", " "): {
            "best": case.get("best"),
            "methods": {
                method: row["curve"]
                for method, row in case["methods"].items()
                if method == "nars" or row.get("family", "rival") == family
            },
        }
        for title, case in chosen.values()
    }
    # NARS alone is no comparison.
    return {title: panel for title, panel in shown.items() if set(panel["methods"]) - {"nars"}}


def _budget(case: Mapping[str, Any]) -> str:
    """Return the budget of a case as its name has it; empty for none."""
    return str(case["setting"].partition("_flops_")[2])


def draw_curves(data: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a figure of what `panels` returned: NARS in colour, every other method in grey with its name at the line's end.

    On tables a line is the regret, because there the best accuracy is known.
    """
    from matplotlib.figure import Figure

    columns = len(data) if len(data) < 3 else 2 if len(data) == 4 else 3
    rows = -(-len(data) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), dpi=110, layout="constrained")
    for i, (title, panel) in enumerate(data.items()):
        axes = style(figure.add_subplot(rows, columns, i + 1, title=title))
        # The words are at the edges alone: panels beside each other have the same axes.
        axes.set_xlabel("number of trainings" if i + columns >= len(data) else "")
        axes.set_ylabel((LOSS if panel["best"] is not None else ACCURACY) if i % columns == 0 else "")
        _draw_panel(axes, panel)
    return figure


def _draw_panel(axes: Any, panel: Mapping[str, Any]) -> None:
    from matplotlib.ticker import LogFormatter

    curves = {name: np.array(curve) for name, curve in panel["methods"].items()}
    if panel["best"] is not None:
        curves = {name: panel["best"] - curve for name, curve in curves.items()}
        top = max(curve.max() for curve in curves.values())
        # Some tables are solved to the last digit, and a logarithm has no zero.
        curves = {name: np.maximum(curve, top / DECADES) for name, curve in curves.items()}
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))  # no powers of ten: 0.2 is plain
    # Others first: NARS is drawn over them.
    others = [name for name in curves if name != "nars"]
    for name, (dash, grey) in zip(others, itertools.cycle(itertools.product(DASHES, GREYS)), strict=False):
        axes.plot(*_steps(curves[name]), color=grey, linestyle=dash, linewidth=1, label=name)
    if "nars" in curves:
        axes.plot(*_steps(curves["nars"]), color=COLORS["nars"], linewidth=2.6, label="nars")
    axes.set_xlim(1, max(map(len, curves.values())))
    _label_ends(axes)


def _steps(curve: Any) -> tuple[Any, Any]:
    return np.arange(1, len(curve) + 1), curve


def _label_ends(axes: Any) -> None:
    """Write the name of every line at its right end, connected with it, so that names do not overlap."""
    low, high = axes.transData.inverted().transform(axes.transAxes.transform([(0, 0), (0, 1)]))[:, 1]
    ends = np.array([line.get_ydata()[-1] for line in axes.lines])
    to = np.log if axes.get_yscale() == "log" else np.asarray
    heights = (to(ends) - to(low)) / (to(high) - to(low))  # shares of the axes
    # A line of text, as a share of the axes: those of a panel are about 2.6 inches high.
    for line, end, height in zip(axes.lines, heights, spread(heights, FONT * 1.15 / 72 / 2.6), strict=True):
        ours = line.get_label() == "nars"
        axes.annotate(
            label(line.get_label()),
            xy=(1, end),
            xytext=(1.06, height),
            xycoords="axes fraction",
            color=line.get_color(),
            fontsize=FONT + 1.5 * ours,
            fontweight="bold" if ours else "normal",
            verticalalignment="center",
            # From the left edge of the text, so that a line crosses no other name.
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": line.get_color(), "linewidth": 0.5}
            | {"shrinkA": 0, "shrinkB": 0},
        )


def label(method: str) -> str:
    """Return the name of a method as a figure has it."""
    batches, sequential, _ = method.partition("_sequential")
    return LABELS.get(batches, batches.replace("_", " ")) + (", one by one" if sequential else "")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return the nearest heights that keep their order and differ by at least `gap`.

    They are from 0 to 1, if they fit there, and have the least squared distances from what is given.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(heights, kind="stable")
    offsets = gap * np.arange(len(order))
    # Without the offsets the wanted heights only have to ascend.
    placed = isotonic_regression(np.asarray(heights, float)[order] - offsets).x
    found = np.empty(len(order))
    found[order] = np.clip(placed, 0, max(1 - offsets[-1], 0)) + offsets
    return [float(height) for height in found]
