"""The style of a report's plots, and those of the search process: rounds, front, convergence, final training.

Every function answers with a `Plot`; one without a picture says why in its caption.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fbnetv3.search.nars.algorithm import REPEATS
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.report.analysis import METHODS, accuracies, by_round, convergence, measured, pareto_front
from fbnetv3.search.trial import Trial

if TYPE_CHECKING:  # run.py imports the report
    from fbnetv3.search.runs.run import Found

COLORS = {"nars": "#0072b2", "random": "#d55e00"}  # of a palette that colour-blind readers can tell apart
GREY, GREEN, STAR = "#666666", "#009e73", "#cc3377"
SIZE = (5.2, 3.5)  # inches: as wide as the page shows it, so that letters stay legible on a telephone


@dataclass(frozen=True)
class Plot:
    """A PNG with its words; `name` is that of its file. Without data there is no PNG, and the caption says why."""

    name: str
    title: str
    caption: str
    png: bytes | None


def plot_axes(x: str, y: str) -> Any:
    """Empty axes in the report's style."""
    # Imported here, so that a search starts without it; and without pyplot, which holds global state.
    from matplotlib.figure import Figure

    axes = Figure(figsize=SIZE, dpi=180, layout="constrained").add_subplot(xlabel=x, ylabel=y)
    return style(axes)


def plot_row(panels: int, y: str = "") -> list[Any]:
    """Axes side by side, which share what is on the left if that has a name."""
    from matplotlib.figure import Figure

    row = Figure(figsize=SIZE, dpi=180, layout="constrained").subplots(1, panels, sharey=bool(y))
    row[0].set_ylabel(y)
    return [style(axes) for axes in row]


def style(axes: Any) -> Any:
    """Set the grid and the frame."""
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def finish(name: str, title: str, caption: str, axes: Any, *, whole: bool = False, under: bool = False) -> Plot:
    """Save a plot; `whole` asks for whole numbers on the x axis, `under` for the legend under the axes."""
    handles, labels = axes.get_legend_handles_labels()
    if under:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    elif labels:
        axes.legend(fontsize=8.5)
    if whole:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    buffer = io.BytesIO()
    # Without the version that matplotlib adds: equal searches have equal files.
    axes.figure.savefig(buffer, format="png", metadata={"Software": None})
    return Plot(name, title, caption, buffer.getvalue())


def scatter(axes: Any, x: npt.ArrayLike, y: npt.ArrayLike, floor: float, **kind: Any) -> None:
    """Dots; those below `floor` are triangles on it, so that a few bad trainings do not squeeze all others together."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    kind = {"s": 20, "alpha": 0.6, "linewidths": 0} | kind
    axes.scatter(x[y >= floor], y[y >= floor], **kind)
    axes.scatter(x[y < floor], np.full((y < floor).sum(), floor), **kind | {"marker": "v", "label": None})


def floor_of(values: Sequence[float]) -> float:
    """Three quartile ranges below the lower quartile, or the lowest value if that is higher."""
    low, high = np.percentile(values, [25, 75])
    return float(max(min(values), low - 3 * (high - low)))


def below(values: Sequence[float], floor: float) -> str:
    """What a caption says of the triangles."""
    fewer = sum(value < floor for value in values)
    return f" Triangles at the bottom: {count(fewer, 'training')} that reached less than {floor:.1f}%." if fewer else ""


def count(n: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def groups(found: list[Found]) -> list[tuple[str, str, list[Trial]]]:
    """Method, name and trials of NARS's rounds, and of the others as one more each."""
    nars = found[0]
    rounds = [("nars", round_name(nars, number), trials) for number, trials in by_round(nars.trials).items()]
    return rounds + [(f.method, METHODS[f.method], list(f.trials)) for f in found[1:]]


def round_name(nars: Found, number: int) -> str:
    """What a round is called in tables and plots."""
    if number == REPEATS:
        return "repeats"
    last = bool(nars.proposal.finalists) and number == max(t.round for t in nars.trials)
    return "finalists" if last else str(number)


def plot_rounds(found: list[Found]) -> Plot:
    """Figure 6: the samples of every round, and what came out."""
    nars, title = found[0], "Samples of every round (Figure 6)"
    epochs = nars.proposal.epochs
    shown = [g for g in groups(found) if g[1] != "repeats"]
    values = [value for _, _, trials in shown for value in accuracies(trials, epochs)]
    if not values:
        return Plot("accuracy_by_round", title, "No training ended well.", None)
    axes, floor, chosen = plot_axes("round", f"accuracy (%), {count(epochs, 'epoch')}"), floor_of(values), _chosen(nars)
    for x, (method, _, trials) in enumerate(shown):
        y, color = accuracies(trials, epochs), COLORS[method]
        places = x + np.linspace(-0.22, 0.22, len(y))
        scatter(axes, places, y, floor, color=color)
        if y:
            low, middle, high = np.percentile(y, [25, 50, 75]).clip(floor)
            axes.bar(x, high - low, 0.66, low, color=color, alpha=0.15, linewidth=0)
            axes.hlines(middle, x - 0.33, x + 0.33, color=color, linewidth=2)
        if chosen is not None and chosen in trials and method == "nars":
            place = (places[measured(trials).index(chosen)], accuracies([chosen], epochs)[0])
            axes.scatter(*place, s=130, marker="*", color=STAR, edgecolors="black", linewidths=0.8, zorder=4)
    axes.set_xticks(range(len(shown)), [name.replace(" ", "\n") for _, name, _ in shown])
    axes.set_xlim(-0.6, len(shown) - 0.4)
    caption = (
        "Validation accuracy. A dot is a training, a line the median, a box the middle half. Round 1 is random; later ones are "
        "what the predictor favours. " + (_NOT_TRIED if chosen is None else "The star is the returned pair.")
    )
    return finish("accuracy_by_round", title, caption + below(values, floor), axes)


_NOT_TRIED = "The returned pair was chosen by prediction and had not been a trial, so it has no dot here."


def _chosen(found: Found) -> Trial | None:
    """The last trial of the returned pair, if it was one that ended well."""
    own = [t for t in measured(found.trials) if tuple(t.candidate) == found.proposal.candidate and t.round != REPEATS]
    return own[-1] if own else None


def plot_pareto(config: SearchConfig, found: list[Found], budgets: list[dict[str, Any]]) -> Plot:
    """As Figure 1: accuracy against cost, the front, what was returned; `budgets` are the rows of `budgets/front.json`."""
    from matplotlib.ticker import EngFormatter

    limit, epochs = config.constraint, found[0].proposal.epochs
    name = "FLOPs" if limit.metric == "flops" else "parameters"
    title = f"Accuracy and {name} (as Figure 1)"
    everything = [t for f in found for t in measured(f.trials)]
    if not everything:
        return Plot("pareto", title, "No training ended well.", None)
    axes = plot_axes(name, f"accuracy (%), {count(epochs, 'epoch')}")
    costs = np.array([getattr(t, limit.metric) for t in everything], float)
    values = np.array(accuracies(everything, epochs))
    floor = floor_of(values.tolist())
    for f in found:
        color, trials = COLORS[f.method], measured(f.trials)
        x = [getattr(t, limit.metric) for t in trials]
        scatter(axes, x, accuracies(trials, epochs), floor, color=color, label=METHODS[f.method])
    front = pareto_front(costs, values)
    axes.step(
        costs[front], values[front], where="post", color=GREEN, linewidth=1.2, label="front of all trials", zorder=1
    )
    for f in found:
        _mark_pair(axes, f, limit.metric, epochs)
    if budgets:
        x, y = [row[limit.metric] for row in budgets], [row["predicted"] for row in budgets]
        axes.scatter(x, y, marker="D", s=34, facecolors="none", edgecolors="black", label="pairs of budgets, predicted")
    for edge, label in ((limit.max, "constraint"), (limit.min, None)):
        if costs.min() / 1.5 < edge < costs.max() * 1.5:  # one far away would squeeze the dots together
            axes.axvline(edge, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    caption = (
        "Validation accuracy. A dot is a training; on the green line lie those that no cheaper one beats. A star is a "
        f"returned pair at what it measured as a trial, a dotted line the {name} of one that had not been a trial."
    )
    if budgets:
        caption += " Diamonds are pairs of other budgets at what the predictor expects of them: not measured."
    return finish("pareto", title, caption + below(values.tolist(), floor), axes, under=True)


def _mark_pair(axes: Any, found: Found, metric: str, epochs: int) -> None:
    chosen, color, label = _chosen(found), COLORS[found.method], f"pair of {METHODS[found.method]}"
    if chosen is None:
        axes.axvline(getattr(found, metric), color=color, linestyle=":", label=label)
    else:
        place = ([getattr(chosen, metric)], accuracies([chosen], epochs))
        axes.scatter(*place, s=130, marker="*", color=color, edgecolors="black", linewidths=0.8, zorder=4, label=label)


def plot_convergence(found: list[Found]) -> Plot:
    """The best so far, by trainings and by epochs spent."""
    title, epochs = "Convergence", found[0].proposal.epochs
    if not any(measured(f.trials) for f in found):
        return Plot("convergence", title, "No training ended well.", None)
    left, right = plot_row(2, f"best so far (%), {count(epochs, 'epoch')}")
    left.set_xlabel("trainings")
    right.set_xlabel("epochs spent")
    for f in found:
        curve, kind = convergence(f.trials, epochs), {"color": COLORS[f.method], "label": METHODS[f.method]}
        left.step(np.arange(1, len(curve.best) + 1), curve.best, where="post", **kind)
        right.step(curve.epochs, curve.best, where="post", **kind)
    caption = (
        "The best validation accuracy so far, in the order of rounds, by trainings and by the epochs that all of them took. "
        "It is the best of a growing number of noisy measurements: part of its rise is luck."
    )
    return finish("convergence", title, caption, left, under=len(found) > 1)


def plot_final(found: list[Found]) -> Plot:
    """The final training."""
    title = "Final training of the chosen pair"
    if not any(f.curve for f in found):
        return Plot("final_training", title, "The pair had no final training here.", None)
    axes = plot_axes("epoch", "validation accuracy (%)")
    for f in found:
        kind = {"color": COLORS[f.method], "marker": "o", "markersize": 4, "label": METHODS[f.method]}
        axes.plot(range(1, len(f.curve) + 1), f.curve, **kind)
    caption = "Validation accuracy after every epoch."
    return finish("final_training", title, caption, axes, whole=True)
