"""Plots of what the search knows: the predictor (as Figure 4), early stopping (as Figure 5), importance, the evolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fbnetv3.pages.plots import GREEN, GREY, Plot, count, finish, plot_axes, plot_row
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.early_stopping import (
    Agreement,
    fewest_candidates,
    lower_bound,
    noise_ceiling,
    rank_correlations,
)
from fbnetv3.search.nars.rounds import round_name
from fbnetv3.search.report.analysis import by_round, measured, predictions, repeated_accuracies
from fbnetv3.search.report.importance import FEWEST, REPEATS, Importance
from fbnetv3.search.report.plots import COLORS, floor_of
from fbnetv3.search.runs.folder import SearchResult
from fbnetv3.search.trial import Trial

PURPLE = "#aa4499"
CYAN = "#00a5c8"  # the colour of the threshold in the paper
NAMES = {"flops": "FLOPs", "params": "parameters"}


def plot_proxy(nars: SearchResult) -> Plot:
    """Plot predicted against exact statistics of unseen architectures, as Figure 4 a and b do."""
    from matplotlib.ticker import EngFormatter

    title, proxy = "FLOPs and parameters predicted after pretraining, against the exact ones", nars.proposal.proxy
    if not proxy:
        return Plot("proxy", title, "This search kept no predictions of statistics.", None)
    row = plot_row(len(proxy))
    for axes, statistic in zip(row, proxy, strict=True):
        ends = [min(statistic.exact + statistic.predicted), max(statistic.exact + statistic.predicted)]
        axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
        axes.scatter(statistic.exact, statistic.predicted, s=7, color=COLORS["nars"], alpha=0.5, linewidths=0)
        axes.set(xlabel=f"exact {NAMES[statistic.name]}", ylabel=f"predicted {NAMES[statistic.name]}")
        axes.set_title(f"R² {statistic.r2:.4f}", fontsize=10)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.get_major_locator().set_params(nbins=4)
    caption = (
        f"The {len(proxy[0].exact):,} architectures of the pool that the encoder was not pretrained on: predicted "
        "statistics against exact ones. On the dashed line both are equal."
    )
    return finish("proxy", title, caption, row[0])


def plot_predicted(config: SearchConfig, nars: SearchResult) -> Plot:
    """Plot measured against predicted accuracy, for predictions made before the training, as Figure 4 c does."""
    epochs, title = nars.proposal.epochs, "Accuracy predicted before each training, against the measured one"
    rounds = {number: predictions(trials, epochs) for number, trials in by_round(nars.trials).items()}
    rounds = {number: pairs for number, pairs in rounds.items() if len(pairs)}
    if not rounds:
        why = "No measured trial had been predicted: there was one round only, or all later trainings failed."
        return Plot("predicted_vs_measured", title, why, None)
    axes = plot_axes("predicted accuracy (%)", f"measured (%), {count(epochs, 'epoch')}")
    floor = floor_of(values := [row[2] for pairs in rounds.values() for row in pairs.tolist()])
    for i, (number, (mean, std, truth)) in enumerate((n, pairs.T) for n, pairs in rounds.items()):
        # Later rounds are darker: their predictor has seen more trials.
        kind = {"fmt": "oDs^v"[i % 5], "markersize": 5, "elinewidth": 0.8, "alpha": 0.3 + 0.7 * (i + 1) / len(rounds)}
        axes.errorbar(mean, truth.clip(floor), xerr=std, color=COLORS["nars"], label=round_name(config, number), **kind)
    axes.axline((mean[0], mean[0]), slope=1, color=GREY, linestyle="--", linewidth=1, label="measured = predicted")
    axes.set_ylim(floor - 0.3)
    caption = (
        "Trainings that were predicted before they were measured. A bar is the predicted standard deviation. The predictor "
        "favoured these candidates, so where they are below the dashed line, its predictions were too high."
    )
    if low := sum(value < floor for value in values):
        caption += f" At the height of {floor:.1f}%: {count(low, 'training')} with less."
    return finish("predicted_vs_measured", title, caption, axes, below_axes=True)


def plot_early_stopping(config: SearchConfig, nars: SearchResult) -> Plot:
    """Plot the rank correlation of every epoch with the last one, as Figure 5 does."""
    title = "How well the ranking after every epoch agrees with the last one"
    batch = [t for t in nars.trials if t.round == 1]
    found = rank_correlations([t.acc1 for t in measured(batch)])
    if len(found) < 2 or math.isnan(found[-1].spearman):
        why = "There is no ranking to compare: one epoch only, or fewer than three trainings of the first batch succeeded."
        return Plot("early_stopping", title, why, None)
    axes = plot_axes("epoch", "correlation with the final ranking")
    epochs, kinds = range(1, len(found) + 1), {"marker": "o", "markersize": 4 if len(found) < 40 else 0}
    n = sum(len(t.acc1) == len(found) for t in measured(batch))
    axes.plot(epochs, [c.spearman for c in found], color=COLORS["nars"], label="Spearman", **kinds)
    if n > 3:
        low = [lower_bound(c.spearman, n) for c in found]
        # The last epoch is compared with itself, so it has no lower end.
        axes.plot(
            epochs[:-1], low[:-1], color=COLORS["nars"], linestyle=":", linewidth=1, label="its lower end", **kinds
        )
    axes.plot(epochs, [c.kendall for c in found], color=PURPLE, label="Kendall", **kinds)
    by_rule = config.stopping == "rule"
    if by_rule:
        label = f"threshold {config.early_stopping:g} (Spearman)"
        axes.axhline(config.early_stopping, color=CYAN, linestyle="--", label=label)
        axes.axvline(nars.proposal.epochs, color=GREEN, linewidth=1, label="length of later trainings")
    ceiling = noise_ceiling(repeated := repeated_accuracies(nars.trials))
    if not math.isnan(ceiling.spearman):
        axes.axhline(ceiling.spearman, color=COLORS["nars"], linestyle=":", label="seed to seed, Spearman")
        axes.axhline(ceiling.kendall, color=PURPLE, linestyle=":", label="seed to seed, Kendall")
    caption = " ".join(
        (
            f"From the {count(n, 'training')} of the first batch that succeeded.",
            _stopping_words(config.early_stopping, found, nars.proposal.epochs, n)
            if by_rule
            else _ended_words(nars.trials),
            _ceiling_words(ceiling, repeated.shape[-1]),
        )
    )
    return finish("early_stopping", title, caption, axes, integer=True, below_axes=True)


def _ended_words(trials: Sequence[Trial]) -> str:
    """Say how many trainings a model of learning curves ended early, and what that saved."""
    stopped = [t for t in trials if t.stopped]
    if not stopped:
        return "A model of learning curves looked at the later trainings, and ended none of them early."
    planned = sum(t.epochs for t in trials)
    saved = sum(t.epochs - t.trained for t in stopped)
    return (
        f"A model of learning curves ended {count(len(stopped), 'later training')} early: hardly one of them would have become "
        f"one of the best. That saved {saved / planned:.0%} of all epochs. No stopped training is compared with a complete one."
    )


def _stopping_words(threshold: float, found: list[Agreement], chosen: int, candidates: int) -> str:
    """Say which epoch was chosen, and how sure it is that its ranking is good enough."""
    if chosen == len(found):
        needed = fewest_candidates(threshold)
        if needed is None or candidates < needed:
            least = "no number of candidates suffices" if needed is None else f"at least {needed} are needed"
            return (
                f"So few candidates cannot tell whether an earlier epoch reaches the threshold of {threshold:g}: {least}. "
                "Nothing is saved, and all trainings run to the end."
            )
        return (
            f"The threshold of {threshold:g} saves nothing here: from no epoch before the last, {chosen}, does the lower end "
            "stay above it. All trainings run to the end."
        )
    at, ends = found[chosen - 1], [lower_bound(c.spearman, candidates) for c in found[chosen - 1 : -1]]
    words = (
        f"The ranking after epoch {chosen} of {len(found)} correlates with the last by {at.spearman:.2f} (Spearman; Kendall "
        f"{at.kendall:.2f}). Later trainings stop there. "
    )
    if all(end >= threshold for end in ends):
        return words + (
            f"From there on, the lower end of the interval (one standard error of Fisher's z) is {threshold:g} or more. At "
            f"this epoch it is {ends[0]:.2f}: with about 84% confidence, the true correlation is higher."
        )
    return words + (
        f"An earlier version chose this epoch, the first that reaches {threshold:g}. The lower end of the interval (one "
        f"standard error of Fisher's z) does not stay above it, so the choice may be an accident of {candidates} candidates."
    )


def _ceiling_words(ceiling: Agreement, candidates: int) -> str:
    if math.isnan(ceiling.spearman):
        return (
            "It is unknown how far two trainings of the same candidates with different seeds agree, because no candidates were "
            "repeated, or too few."
        )
    return (
        f"Trainings of the same {candidates} candidates with different seeds correlate by {ceiling.spearman:.2f} (Kendall "
        f"{ceiling.kendall:.2f}). A higher correlation than that is no better ranking, because another seed changes as much."
    )


def plot_importance(importance: Importance | None, most: int = 12) -> Plot:
    """Plot which coordinates the accuracy of the trials depends on."""
    title = "Importance of the coordinates"
    if importance is None:
        why = f"Fewer than {FEWEST} trainings succeeded, or all have the same accuracy: they say nothing."
        return Plot("importance", title, why, None)
    if (skill := importance.explained.mean()) <= 0:
        why = f"On trials that it has not seen, the predictor explains nothing of the accuracy (R² {skill:.2f})."
        return Plot("importance", title, why, None)
    mean, std = importance.loss.mean(axis=0), importance.loss.std(axis=0)
    order = np.argsort(mean, kind="stable")[-most:]
    axes = plot_axes("loss of explained variance (points of R²)", "")
    axes.barh(
        range(len(order)), mean[order], xerr=std[order], color=COLORS["nars"], alpha=0.75, ecolor=GREY, height=0.7
    )
    axes.set_yticks(range(len(order)), [importance.names[i] for i in order], fontsize=8.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    caption = (
        f"Permutation importance of the {len(order)} most important of {len(mean)} coordinates. The accuracy head is "
        "fitted to four fifths of the trials. It predicts the rest, with the values of one coordinate shuffled. A bar is the "
        f"standard deviation over {REPEATS} repeats with other folds and shuffles. Without shuffling the head explains "
        f"{skill:.0%} of the variance. Few trials say little, bars that reach 0 say nothing, and trials of later rounds were "
        "not chosen at random."
    )
    return finish("importance", title, caption, axes)


def plot_evolution(config: SearchConfig, nars: SearchResult) -> Plot:
    """Plot the best score of every generation of stage 3."""
    title, history = "Evolution by the predictor's score", nars.proposal.history
    if not history:
        return Plot("evolution", title, "This search had no evolution.", None)
    axes = plot_axes("generation", "best score (%)")
    axes.plot(history, color=COLORS["nars"], marker="o", markersize=3)
    axes.ticklabel_format(useOffset=False)
    caption = (
        "The highest score up to every generation. The score is the predicted accuracy minus "
        f"{config.evolution.caution:g} times its standard deviation. Generation 0 consists of the best trials and of random "
        "candidates."
    )
    return finish("evolution", title, caption, axes, integer=True)
