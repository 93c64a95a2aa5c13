"""Figure 4 of the paper, drawn from the result of the benchmark `predictor`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from fbnetv3.benchmarks.result import Result

LINES = {
    "default": "default, pretrained",
    "scratch": "default, not pretrained",
    "statistics": "not pretrained, statistics as inputs",
    "paper": "the paper's network, pretrained",
    "scratch_network": "a network, not pretrained",
}
# Of a palette that colour-blind readers can tell apart.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
PANELS = (
    ("flops", 1e6, "(a) FLOPs (M)"),
    ("params", 1e6, "(b) params (M)"),
    ("scratch", 1, "(c) accuracy (%), without pretraining"),
    ("default", 1, "(d) accuracy (%), with pretraining"),
)


def draw_figure4(result: Result) -> bytes:
    """Return a PNG of Figure 4's five panels."""
    from matplotlib.figure import Figure

    shown, methods = result.values["figure4"], result.values["tables"]["nas_bench_macro"]["methods"]
    figure = Figure(figsize=(19, 3.9), layout="constrained")
    axes = figure.subplots(1, 5)
    for axis, (key, unit, title) in zip(axes, PANELS, strict=False):
        true, predicted = (np.array(shown[key][side]) / unit for side in ("true", "predicted"))
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axis.plot(ends, ends, color="0.7", linewidth=1)  # where predictions are exact
        axis.scatter(true, predicted, s=7)
        tau = stats.kendalltau(true, predicted)[0]
        axis.set(title=title, xlabel="true", ylabel="predicted")
        axis.text(0.04, 0.93, f"Kendall's tau {tau:.3f}", transform=axis.transAxes)
    draw_errors(axes[4], methods)
    axes[4].set(title="(e) mean squared error", xlabel="samples", ylabel="points squared")
    axes[4].legend(fontsize=8)
    figure.suptitle(
        f"Figure 4 on NAS-Bench-Macro (CIFAR-10), not on the paper's data; (c) and (d) with {shown['samples']} samples"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_errors(axes: Any, methods: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw panel e: the mean squared error by samples, both logarithmic, of every method on one table."""
    for (key, label), color in zip(LINES.items(), COLORS, strict=True):
        sizes, errors = [int(n) for n in methods[key]], [row["mse"] for row in methods[key].values()]
        axes.loglog(sizes, errors, "o-", label=label, color=color)
    sizes = sorted({int(n) for curve in methods.values() for n in curve})
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_xticks([], minor=True)
