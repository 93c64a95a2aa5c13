"""Plots of the search process: rounds, front, convergence, final training.

Every function returns a `Plot`. A plot without an image says in its caption why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.pages.plots import BLUE, GREEN, GREY, ORANGE, Plot, count, finish, plot_axes, plot_row
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.rounds import round_name
from fbnetv3.search.report.analysis import accuracies, by_round, convergence, measured
from fbnetv3.search.runs.budgets import pareto_front
from fbnetv3.search.runs.folder import METHODS, SearchResult
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.trial import REPEATS, Trial

COLORS = {"nars": BLUE, "random": ORANGE}
STAR = "#cc3377"
NOT_TRIED = "The returned pair was chosen by prediction and was not a trial, so it has no dot here."


def scatter(axes: Any, x: npt.ArrayLike, y: npt.ArrayLike, floor: float, **kind: Any) -> None:
    """Draw dots. Points below `floor` become triangles on it, so that a few bad trainings do not squeeze the others."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    kind = {"s": 20, "alpha": 0.6, "linewidths": 0} | kind
    axes.scatter(x[y >= floor], y[y >= floor], **kind)
    axes.scatter(x[y < floor], np.full((y < floor).sum(), floor), **kind | {"marker": "v", "label": None})


def floor_of(values: Sequence[float]) -> float:
    """Return three interquartile ranges below the lower quartile, or the lowest value if that is higher."""
    low, high = np.percentile(values, [25, 75])
    return float(max(min(values), low - 3 * (high - low)))


def below(values: Sequence[float], floor: float) -> str:
    """Return what a caption says about the triangles; nothing if there are none."""
    fewer = sum(value < floor for value in values)
    return f" Triangles at the bottom: {count(fewer, 'training')} that reached less than {floor:.1f}%." if fewer else ""


def groups(config: SearchConfig, results: list[SearchResult]) -> list[tuple[str, str, list[Trial]]]:
    """Return method, name and trials of every round of NARS, and of every other method as one group."""
    rounds = [("nars", short_name(config, number), trials) for number, trials in by_round(results[0].trials).items()]
    return rounds + [(other.method, METHODS[other.method], list(other.trials)) for other in results[1:]]


def short_name(config: SearchConfig, number: int) -> str:
    """Return what a round is called in a column of rounds: its number, repeats or finalists."""
    return round_name(config, number).removeprefix("round ")


def plot_rounds(config: SearchConfig, results: list[SearchResult]) -> Plot:
    """Plot the trainings of every round and their accuracy, as Figure 6 does."""
    nars, title = results[0], "Accuracy of the trainings of every round"
    epochs, by = nars.proposal.epochs, _compared_by(results)
    shown = [group for group in groups(config, results) if group[1] != "repeats"]
    values = [value for _, _, trials in shown for value in accuracies(trials, epochs)]
    if not values:
        return Plot("accuracy_by_round", title, "No training succeeded.", None)
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
            face = STAR if by[-1] == epochs else "none"
            axes.scatter(*place, s=130, marker="*", facecolors=face, edgecolors="black", linewidths=0.8, zorder=4)
    star = "The star is the returned pair."
    if by[-1] != epochs:
        star = (
            f"The star is the returned pair, hollow because it was chosen by accuracies after {count(by[-1], 'epoch')}."
        )
    axes.set_xticks(range(len(shown)), [name.replace(" ", "\n") for _, name, _ in shown])
    axes.set_xlim(-0.6, len(shown) - 0.4)
    caption = (
        "Validation accuracy. A dot is a training, a line the median, a box the middle half. Round 1 is random. The predictor "
        "chose the candidates of later rounds. " + (NOT_TRIED if chosen is None else star)
    )
    return finish("accuracy_by_round", title, caption + below(values, floor), axes)


def _chosen(result: SearchResult) -> Trial | None:
    """Return the last measured trial of the returned pair; None if it was not a trial."""
    candidate = result.proposal.candidate
    own = [t for t in measured(result.trials) if tuple(t.candidate) == candidate and t.round != REPEATS]
    return own[-1] if own else None


def plot_pareto(config: SearchConfig, results: list[SearchResult], budgets: list[dict[str, Any]]) -> Plot:
    """Plot accuracy against cost, with the Pareto front and the returned pairs, as Figure 1 does.

    A pair that was chosen by complete trainings has its star among them. Shorter trainings have a panel of their own.

    Args:
        budgets: the rows of `budgets/front.json`.
    """
    from matplotlib.ticker import EngFormatter

    metric, by = config.constraint.metric, _compared_by(results)
    name = "FLOPs" if metric == "flops" else "parameters"
    title = f"Accuracy against {name}"
    if not any(measured(result.trials) for result in results):
        return Plot("pareto", title, "No training succeeded.", None)
    row = [plot_axes(name, "")] if len(by) == 1 else plot_row(len(by))
    triangles = ""
    for axes, epochs in zip(row, by, strict=True):
        axes.set(xlabel=name, ylabel=f"accuracy (%), {count(epochs, 'epoch')}")
        triangles += _front(axes, config.constraint, results, epochs)
        for result in results:
            _mark_pair(axes, result, metric, epochs, chosen_by=epochs == by[-1])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.get_major_locator().set_params(nbins=9 // len(by))
    if budgets:
        x, y = [pair[metric] for pair in budgets], [pair["predicted"] for pair in budgets]
        row[0].scatter(
            x, y, marker="D", s=34, facecolors="none", edgecolors="black", label="pairs of budgets, predicted"
        )
    caption = (
        "Validation accuracy. A dot is a training. The green line connects trainings that no cheaper one beats. A star is a "
        f"returned pair with the accuracy of its trial. A dotted line shows the {name} of a returned pair that was not a trial."
    )
    if len(by) > 1:
        caption += (
            f" Left: all trainings, after {count(by[0], 'epoch')}. Right: those that went on, after {count(by[1], 'epoch')}; "
            "the pair was chosen among these. On the left its star is hollow, because it was not chosen by these accuracies."
        )
    if budgets:
        caption += " Diamonds are pairs of other budgets with their predicted accuracy; they were not measured."
    return finish("pareto", title, caption + triangles, row[0], below_axes=True)


def _compared_by(results: list[SearchResult]) -> list[int]:
    """Return after how many epochs trainings are compared; the pair was chosen by the last of these."""
    nars = results[0]
    longest = max((t.epochs for t in nars.trials), default=nars.proposal.epochs)
    # The finalists of a search that stopped its trials early train to the end, and the best of them is the answer.
    return sorted({nars.proposal.epochs, longest if nars.proposal.finalists else nars.proposal.epochs})


def _front(axes: Any, limit: Constraint, results: list[SearchResult], epochs: int) -> str:
    """Draw the trainings that have so many epochs, their front, and the limits; return what the caption says of triangles."""
    shown = {r.method: _as_long(r.trials, epochs, results) for r in results}
    everything = [t for some in shown.values() for t in some]
    if not everything:
        return ""
    costs = np.array([getattr(t, limit.metric) for t in everything], float)
    values = np.array(accuracies(everything, epochs))
    floor = floor_of(values.tolist())
    for method, trials in shown.items():
        x = [getattr(t, limit.metric) for t in trials]
        scatter(axes, x, accuracies(trials, epochs), floor, color=COLORS[method], label=METHODS[method])
    front = pareto_front(costs, values)
    axes.step(
        costs[front], values[front], where="post", color=GREEN, linewidth=1.2, label="front of all trials", zorder=1
    )
    for edge, label in ((limit.max, "constraint"), (limit.min, None)):
        # A limit that is far away would squeeze the dots together.
        if costs.min() / 1.5 < edge < costs.max() * 1.5:
            axes.axvline(edge, color=GREY, linestyle="--", linewidth=1, label=label)
    return below(values.tolist(), floor)


def _as_long(trials: Sequence[Trial], epochs: int, results: list[SearchResult]) -> list[Trial]:
    """Return the measured trials that can be compared after so many epochs. The shortest comparison has all of them."""
    least = epochs if epochs > results[0].proposal.epochs else 0
    return [t for t in measured(trials) if len(t.acc1) >= least]


def _mark_pair(axes: Any, result: SearchResult, metric: str, epochs: int, chosen_by: bool) -> None:
    chosen, color, label = _chosen(result), COLORS[result.method], f"pair of {METHODS[result.method]}"
    if chosen is None:
        axes.axvline(getattr(result, metric), color=color, linestyle=":", label=label)
        return
    place = ([getattr(chosen, metric)], accuracies([chosen], epochs))
    face = color if chosen_by else "none"
    axes.scatter(*place, s=130, marker="*", facecolors=face, edgecolors="black", linewidths=0.8, zorder=4, label=label)


def plot_convergence(results: list[SearchResult]) -> Plot:
    """Plot the best accuracy so far, against trainings and against the epochs spent."""
    title, epochs = "Best accuracy so far, by trainings and by epochs", results[0].proposal.epochs
    if not any(measured(result.trials) for result in results):
        return Plot("convergence", title, "No training succeeded.", None)
    left, right = plot_row(2, f"best so far (%), {count(epochs, 'epoch')}")
    left.set_xlabel("trainings")
    right.set_xlabel("epochs spent")
    for result in results:
        curve, kind = (
            convergence(result.trials, epochs),
            {"color": COLORS[result.method], "label": METHODS[result.method]},
        )
        left.step(np.arange(1, len(curve.best) + 1), curve.best, where="post", **kind)
        right.step(curve.epochs, curve.best, where="post", **kind)
    caption = (
        "The best validation accuracy so far, in the order of rounds: against the number of trainings, and against the epochs "
        "that all trainings took. It is the best of a growing number of noisy measurements, so part of its rise is luck."
    )
    return finish("convergence", title, caption, left, below_axes=len(results) > 1)


def plot_final(results: list[SearchResult]) -> Plot:
    """Plot the final training."""
    title = "Final training of the chosen pair"
    if not any(result.curve for result in results):
        return Plot("final_training", title, "The pair had no final training here.", None)
    axes = plot_axes("epoch", "validation accuracy (%)")
    for result in results:
        kind = {"color": COLORS[result.method], "marker": "o", "markersize": 4, "label": METHODS[result.method]}
        axes.plot(range(1, len(result.curve) + 1), result.curve, **kind)
    caption = "Validation accuracy after every epoch."
    return finish("final_training", title, caption, axes, integer=True)
