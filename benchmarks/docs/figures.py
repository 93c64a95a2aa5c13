"""The four figures of docs/search.md: the space, the labels, the predictor and the evolution.

    python -m fbnetv3.benchmarks.docs.figures --out docs/figures

takes a minute. Labels and predictor are drawn from their result files; the space and the evolution, on the made-up landscape of
landscapes.py, are computed here from fixed seeds. The same data and versions give the same bytes; every picture says in its
description of which data it is, so that a test finds those that are out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fbnetv3 import complexity
from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.evolution import random_best
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.benchmarks.search.predictor import draw_errors
from fbnetv3.files import write_atomically
from fbnetv3.search.nars.evolve import PRESETS, Score, evolve
from fbnetv3.search.report.plots import plot_axes
from fbnetv3.search.space.constraints import Floats, as_limits
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import IntMatrix, load_space

SPACE = "released"
WINDOW = (400e6, 800e6)  # section 4.2
BUDGET = 450e6  # the tightest
SEEDS = range(5)
CHANCE = 25  # times the evaluations that the evolution has
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def space_data() -> dict[str, Any]:
    """FLOPs of uniform draws in millions, as counts of a histogram, and those of the released networks inside the space."""
    index = sobol(load_space(SPACE), 17, 0)
    millions = cost(load_space(SPACE), index).flops() / 1e6
    edges = np.geomspace(millions.min(), millions.max(), 80).round(3)
    inside = float(np.mean((millions * 1e6 >= WINDOW[0]) & (millions * 1e6 <= WINDOW[1])))
    released = {
        name[-1].upper(): complexity.cost(ARCHS[name]).flops() / 1e6
        for name in (f"fbnetv3_{letter}" for letter in "bcde")
    }
    counts = np.histogram(millions, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist(), "inside": inside, "released": released}


def draw_space(data: Mapping[str, Any]) -> Any:
    """Where the window and the released networks lie among uniform draws."""
    axes, top = plot_axes("FLOPs (millions, logarithmic)", "uniform draws"), max(data["counts"])
    label = f"window of the search: {data['inside']:.0%} of the draws"
    axes.axvspan(*(edge / 1e6 for edge in WINDOW), color=ORANGE, alpha=0.2, linewidth=0, zorder=0, label=label)
    axes.stairs(data["counts"], data["edges"], fill=True, color=BLUE)
    for i, (name, millions) in enumerate(data["released"].items()):
        axes.axvline(millions, color="black", linewidth=1, linestyle=":", label="" if i else "released B to E")
        axes.text(millions * 1.01, top * 1.12, name, fontsize=9)
    ticks = (300, 400, 600, 800, 1200, 1600)
    axes.set(xscale="log", xlim=(ticks[0], 2000), ylim=(0, top * 1.4))
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, loc="upper right")
    return axes


def labels_data() -> dict[str, float]:
    """Seconds an architecture of every way to label."""
    number = load_result("cost_speed").number
    return {
        "build it and count with fvcore": number("fvcore.seconds_per_architecture.median"),
        "pool: draw, filter, label, encode": number("pool.seconds.median") / number("pool.rows"),
        "all statistics by look-up": number("labels.seconds_per_architecture.statistics.median"),
        "FLOPs and parameters by look-up": number("labels.seconds_per_architecture.cost.median"),
    }


def draw_labels(data: Mapping[str, float]) -> Any:
    """What the label of one architecture costs."""
    axes = plot_axes("seconds for one architecture (logarithmic)", "")
    names = list(data)[::-1]
    seconds = [data[name] for name in names]
    axes.barh(names, seconds, color=[BLUE if "fvcore" not in name else GREY for name in names], height=0.6)
    for i, value in enumerate(seconds):
        words = f"{value * 1e6:.2g} µs" if value < 1e-3 else f"{value:.2g} s"
        axes.text(value * 1.3, i, words, va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(1e-8, max(seconds) * 20)
    axes.grid(visible=False, axis="y")
    return axes


def predictor_data() -> Any:
    """Errors by method and samples on the table that is real."""
    return load_result("predictor").values["tables"]["nas_bench_macro"]["methods"]


def draw_predictor(data: Mapping[str, Any]) -> Any:
    """Mean squared error by samples, as Figure 4e."""
    axes = plot_axes("trained networks to learn from", "mean squared error (points²)")
    draw_errors(axes, data)
    ticks = (0.1, 0.2, 0.5, 1, 2, 4)
    axes.set_yticks(ticks, map(str, ticks))
    axes.set_yticks([], minor=True)
    axes.legend(fontsize=8)
    return axes


def evolution_data() -> dict[str, list[list[tuple[int, float]]]]:
    """Best value so far by evaluations: of both presets, and of chance with `CHANCE` times as many; a list a seed."""
    space = load_space(SPACE)
    oracle, limits = Oracle(space), as_limits(space, Constraint("flops", BUDGET))
    nothing: IntMatrix = np.empty((0, len(space.sizes)), np.int64)
    chances = CHANCE * PRESETS["default"].evaluations

    def search(name: str, score: Score, seed: int) -> None:
        if name in PRESETS:
            evolve(space, score, nothing, limits, PRESETS[name], seed)
        else:
            random_best(limits, score, chances, seed)

    found: dict[str, list[list[tuple[int, float]]]] = {}
    for name, seed in itertools.product((*PRESETS, "random"), SEEDS):
        score = _Recorded(oracle)
        search(name, score, seed)
        found.setdefault(name, []).append(score.curve())
    return found


class _Recorded:
    """A score that keeps every rise of the best value so far, and where it ended."""

    def __init__(self, score: Score) -> None:
        self.score, self.count, self.best = score, 0, -np.inf
        self.rises: list[tuple[int, float]] = []

    def __call__(self, index: IntMatrix) -> Floats:
        values = self.score(index)
        best = np.maximum.accumulate([self.best, *values.tolist()])
        self.rises += [(self.count + int(i) + 1, float(best[i + 1])) for i in np.flatnonzero(np.diff(best))]
        self.count, self.best = self.count + len(values), float(best[-1])
        return values

    def curve(self) -> list[tuple[int, float]]:
        """Evaluations and the best value after them."""
        return [*self.rises, (self.count, self.best)]


def draw_evolution(data: Mapping[str, list[list[tuple[int, float]]]]) -> Any:
    """A line a seed."""
    axes = plot_axes("evaluated pairs (logarithmic)", "best value so far (%)")
    styles = {
        "default": ("preset default", BLUE),
        "paper": ("preset paper", ORANGE),
        "random": ("random pairs", GREY),
    }
    for method, (name, color) in styles.items():
        for i, curve in enumerate(data[method]):
            counts, best = zip(*curve, strict=True)
            axes.step(counts, best, where="post", color=color, linewidth=1.3, label=name if i == 0 else None)
            axes.plot(counts[-1], best[-1], "o", color=color, markersize=4)
    axes.set(xscale="log", xlim=(100, None), ylim=(77.5, None))
    axes.legend(fontsize=8)
    return axes


FIGURES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "space": (space_data, draw_space),
    "labels": (labels_data, draw_labels),
    "predictor": (predictor_data, draw_predictor),
    "evolution": (evolution_data, draw_evolution),
}


def fingerprint(data: Any) -> str:
    """What a picture of this data has as its description."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def picture(name: str) -> bytes:
    """One figure as PNG."""
    make, draw = FIGURES[name]
    data = make()
    figure, description, buffer = draw(data).figure, PngInfo(), io.BytesIO()
    figure.savefig(buffer, format="png")
    description.add_text("Description", fingerprint(data))
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(64).save(small, "png", optimize=True, pnginfo=description)
    return small.getvalue()


def main(argv: list[str] | None = None) -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the PNG files")
    options = parser.parse_args(argv)
    for name in FIGURES:
        write_atomically(options.out / f"{name}.png", picture(name))


if __name__ == "__main__":
    main()
