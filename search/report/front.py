"""The plot of many budgets: the Pareto front of what the predictor proposes for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fbnetv3.files import write_atomically
from fbnetv3.pages.plots import plot_axes, png_of
from fbnetv3.search.runs.budgets import FOLDER, FRONT, BudgetAnswer, pareto_front


def write_front(answers: Sequence[BudgetAnswer], folder: Path) -> Path:
    """Write `budgets/front.png` into the folder of a search, and return its path."""
    metric = answers[0].constraint.metric
    costs = np.concatenate([getattr(answer, metric) for answer in answers])
    mean = np.concatenate([answer.mean for answer in answers])
    front = pareto_front(costs, mean)
    axes = plot_axes(metric, f"predicted accuracy (%), {answers[0].epochs} epochs")
    axes.scatter(costs, mean, s=10, color="#666666", alpha=0.4, linewidths=0, label="last generations")
    axes.step(costs[front], mean[front], where="post", color="#0072b2", label="Pareto front")
    best = np.array([(getattr(answer, metric)[0], answer.mean[0]) for answer in answers])
    axes.scatter(*best.T, s=50, marker="*", color="#d55e00", zorder=3, label="answers")
    axes.legend(fontsize=8)
    path = folder / FOLDER / f"{FRONT}.png"
    write_atomically(path, png_of(axes.figure))
    return path
