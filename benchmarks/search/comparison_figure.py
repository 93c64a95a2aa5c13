"""The plot of `fbnetv3 search compare`: how good the best pair so far is, by trainings, for every method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fbnetv3.search.report.plots import COLORS, png_of, style

# Of the report's palette, which colour-blind readers can tell apart.
LINES = COLORS | {
    "tpe": "#009e73",
    "evolution": "#cc79a7",
    "tpe_sequential": "#66c2a5",
    "evolution_sequential": "#e7b8d0",
    "nars_scratch": "#56b4e9",
    "nars_paper_labels": "#e69f00",
    "nars_no_stage3": "#000000",
}


def plot(values: Mapping[str, Any]) -> bytes:
    """Return the plot of a result's values as a PNG."""
    return png_of(draw_curves(values["cases"]))


def draw_curves(cases: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a figure with a panel per case: the best accuracy so far against trainings, mean and std over seeds.

    On tables it draws the regret instead, because there the best accuracy is known.
    """
    from matplotlib.figure import Figure

    # Two in a row, and one legend for all: so the letters stay legible at the width of a page.
    columns = min(len(cases), 2)
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows + 0.6), dpi=110, layout="constrained")
    for i, (name, case) in enumerate(cases.items(), 1):
        axes = style(figure.add_subplot(rows, columns, i, title=name.replace("_", " "), xlabel="trainings"))
        axes.set_ylabel("regret (points)" if "best" in case else "best so far (%)")
        draw_case(axes, case)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels) if len(labels) < 5 else 3, frameon=False)
    return figure


def draw_case(axes: Any, case: Mapping[str, Any]) -> None:
    """Draw a line per method, and a band of one std around it."""
    best = case.get("best")
    for method, row in case["methods"].items():
        mean, std = np.array(row["curve"]), np.array(row["curve_std"])
        mean = mean if best is None else best - mean
        steps, color = np.arange(1, len(mean) + 1), LINES[method]
        # The bands of many methods lie upon each other. Weak ones leave all lines visible.
        axes.fill_between(steps, mean - std, mean + std, color=color, alpha=0.08, linewidth=0)
        axes.plot(steps, mean, label=method, color=color)
    if best is not None:
        # The first trainings are far from the best. Their regret would leave no room for the differences that count.
        late = [best - row["curve"][len(row["curve"]) // 4] for row in case["methods"].values()]
        axes.set_ylim(0.0, 2.5 * max(late))
