"""Draws the figures of docs/search.md: the space, costs, the predictor, early stopping, the evolution and three comparisons.

    python -m fbnetv3.benchmarks.docs.figures --out docs/figures

It takes a minute. Costs, predictor, early stopping and comparisons are drawn from their result files. The space, and the
evolution on the made-up landscape of landscapes.py, are computed here from fixed seeds. The same data and versions give the
same bytes.
Every figure has a fingerprint of its data in its description, so that a test finds the figures that are out of date.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fbnetv3 import complexity
from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.comparison.figure import draw_curves, panels
from fbnetv3.benchmarks.search.early_stopping import curves_of
from fbnetv3.benchmarks.search.early_stopping import draw as draw_early_stopping
from fbnetv3.benchmarks.search.evolution import random_best
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.benchmarks.search.predictor_figure import draw_errors
from fbnetv3.benchmarks.tables import duration
from fbnetv3.files import write_atomically
from fbnetv3.pages.plots import plot_axes
from fbnetv3.search.nars.evolve import PRESETS, evolve
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import Floats, IntMatrix, Score

SPACE = "released"
WINDOW = (400e6, 800e6)  # FLOPs of the pool in section 4.2
BUDGET = 450e6  # FLOPs; the tightest budget of the benchmark `evolution`
SEEDS = range(5)
CHANCE = 25  # random search scores so many times the candidates of the evolution
COMPARISONS = ("compare_final", "compare_nas_bench_macro", "compare_quickstart")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def space_data() -> dict[str, Any]:
    """Return a histogram of the FLOPs of uniform draws in millions, and the FLOPs of the released networks in the space."""
    space = load_space(SPACE)
    # 2**17 Sobol rows cover the space evenly. More would give the same histogram.
    millions = space.cost(sobol(space, 17, 0)).flops() / 1e6
    edges = np.geomspace(millions.min(), millions.max(), 80).round(3)
    inside = float(np.mean((millions * 1e6 >= WINDOW[0]) & (millions * 1e6 <= WINDOW[1])))
    released = {
        name[-1].upper(): complexity.cost(ARCHS[name]).flops() / 1e6
        for name in (f"fbnetv3_{letter}" for letter in "bcde")
    }
    # The data are rounded and counted before they are drawn: the fingerprint must not depend on the last bits of a machine.
    counts = np.histogram(millions, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist(), "inside": inside, "released": released}


def draw_space(data: Mapping[str, Any]) -> Any:
    """Draw the FLOPs of uniform draws, the window of the search, and the released networks."""
    axes, top = plot_axes("FLOPs (millions, logarithmic)", "uniform draws"), max(data["counts"])
    label = f"window of the search: {data['inside']:.0%} of the draws"
    axes.axvspan(*(edge / 1e6 for edge in WINDOW), color=ORANGE, alpha=0.2, linewidth=0, zorder=0, label=label)
    axes.stairs(data["counts"], data["edges"], fill=True, color=BLUE)
    for i, (name, millions) in enumerate(data["released"].items()):
        # One label for all lines: the legend has one entry for them.
        axes.axvline(millions, color="black", linewidth=1, linestyle=":", label="" if i else "released B to E")
        axes.text(millions * 1.01, top * 1.12, name, fontsize=9)
    ticks = (300, 400, 600, 800, 1200, 1600)
    axes.set(xscale="log", xlim=(ticks[0], 2000), ylim=(0, top * 1.4))
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, loc="upper right")
    return axes


def costs_data() -> dict[str, float]:
    """Return the seconds that the costs of one architecture take, by the way to compute them."""
    number = load_result("cost_speed").number
    return {
        "build it and count with fvcore": number("fvcore.seconds_per_architecture.median"),
        "pool: sample, filter, statistics, encode": number("pool.seconds.median") / number("pool.rows"),
        "all statistics by look-up": number("labels.seconds_per_architecture.statistics.median"),
        "FLOPs and parameters by look-up": number("labels.seconds_per_architecture.cost.median"),
    }


def draw_costs(data: Mapping[str, float]) -> Any:
    """Draw a bar per way to compute costs."""
    axes = plot_axes("seconds per architecture", "")
    names = list(data)[::-1]  # bars grow upwards: the first one comes to the top
    seconds = [data[name] for name in names]
    axes.barh(names, seconds, color=[BLUE if "fvcore" not in name else GREY for name in names], height=0.6)
    for i, value in enumerate(seconds):
        axes.text(value * 1.3, i, duration(value), va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(1e-8, max(seconds) * 20)  # room for the texts
    axes.grid(visible=False, axis="y")
    return axes


def predictor_data() -> Any:
    """Return the errors by method and samples on NAS-Bench-Macro."""
    return load_result("predictor").values["tables"]["nas_bench_macro"]["methods"]


def draw_predictor(data: Mapping[str, Any]) -> Any:
    """Draw the mean squared error by samples, as Figure 4e does."""
    axes = plot_axes("trained networks to learn from", "mean squared error (points²)")
    draw_errors(axes, data)
    ticks = (0.1, 0.2, 0.5, 1, 2, 4)
    axes.set_yticks(ticks, map(str, ticks))
    axes.set_yticks([], minor=True)
    axes.legend(fontsize=8)
    return axes


def evolution_data() -> dict[str, list[list[tuple[int, float]]]]:
    """Return the best value so far by evaluations, one curve per seed: of both presets, and of random candidates."""
    space = load_space(SPACE)
    oracle, constraints = Oracle(space), ConstraintSet(space, (Constraint("flops", BUDGET),))
    no_trials: IntMatrix = np.empty((0, len(space.sizes)), np.int64)
    chances = CHANCE * PRESETS["default"].evaluations

    def search(name: str, score: Score, seed: int) -> None:
        if name in PRESETS:
            evolve(constraints, score, no_trials, PRESETS[name], seed)
        else:
            random_best(constraints, score, chances, seed)

    found: dict[str, list[list[tuple[int, float]]]] = {}
    for name, seed in itertools.product((*PRESETS, "random"), SEEDS):
        score = _Recorded(oracle)
        search(name, score, seed)
        found.setdefault(name, []).append(score.curve())
    return found


class _Recorded:
    """A score that records every rise of the best value so far."""

    def __init__(self, score: Score) -> None:
        self.score, self.count, self.best = score, 0, -np.inf
        self.rises: list[tuple[int, float]] = []

    def __call__(self, index: IntMatrix) -> Floats:
        values = self.score(index)
        # An evolution scores many rows in one call; the order within it is that of the rows.
        best = np.maximum.accumulate([self.best, *values.tolist()])
        self.rises += [(self.count + int(i) + 1, float(best[i + 1])) for i in np.flatnonzero(np.diff(best))]
        self.count, self.best = self.count + len(values), float(best[-1])
        return values

    def curve(self) -> list[tuple[int, float]]:
        """Return the numbers of evaluations at which the best value rose, with that value, and the end of the search."""
        return [*self.rises, (self.count, self.best)]


def draw_evolution(data: Mapping[str, list[list[tuple[int, float]]]]) -> Any:
    """Draw a line per seed and method, with a dot where a search ended."""
    axes = plot_axes("evaluated candidates (logarithmic)", "best value so far (%)")
    styles = {
        "default": ("preset default", BLUE),
        "paper": ("preset paper", ORANGE),
        "random": ("random candidates", GREY),
    }
    for method, (name, color) in styles.items():
        for i, curve in enumerate(data[method]):
            counts, best = zip(*curve, strict=True)
            axes.step(counts, best, where="post", color=color, linewidth=1.3, label=name if i == 0 else None)
            axes.plot(counts[-1], best[-1], "o", color=color, markersize=4)
    # The first hundred evaluations are random in all methods, and far below the rest.
    axes.set(xscale="log", xlim=(100, None), ylim=(77.5, None))
    axes.legend(fontsize=8)
    return axes


def comparison_data(name: str) -> dict[str, Any]:
    """Return what a comparison's figure shows of its result."""
    return panels(load_result(name).values["cases"])


def early_stopping_data() -> dict[str, list[float]]:
    """Return the mean regret by epochs of every method."""
    return curves_of(load_result("early_stopping").values)


FIGURES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "space": (space_data, draw_space),
    "costs": (costs_data, draw_costs),
    "predictor": (predictor_data, draw_predictor),
    "evolution": (evolution_data, draw_evolution),
    "early_stopping": (early_stopping_data, draw_early_stopping),
    **{name: (partial(comparison_data, name), draw_curves) for name in COMPARISONS},
}


def fingerprint(data: Any) -> str:
    """Return the description of a figure of this data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def draw_png(name: str) -> bytes:
    """Return one figure as a PNG with 64 colours, which is a third of the size of a PNG with all colours."""
    make, draw = FIGURES[name]
    data = make()
    figure, description, buffer = draw(data).figure, PngInfo(), io.BytesIO()
    figure.savefig(buffer, format="png")
    # PNG keeps a text that no viewer shows. The test reads it, and needs no drawing.
    description.add_text("Description", fingerprint(data))
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(64).save(small, "png", optimize=True, pnginfo=description)
    return small.getvalue()


def main(out: Annotated[Path, typer.Option(help="Folder of the PNG files.")]) -> None:
    """Draw the figures of docs/search.md."""
    for name in FIGURES:
        write_atomically(out / f"{name}.png", draw_png(name))


if __name__ == "__main__":
    typer.run(main)
