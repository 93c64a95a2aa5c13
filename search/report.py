"""The report of a search: one self-contained HTML page, and its plots as PNG files in `plots/` beside it.

Accuracies of trials are compared after the same number of epochs, those of the early stopping (section 3.3), whatever
the round trained for.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from fbnetv3.arch import Arch
from fbnetv3.files import write_atomically
from fbnetv3.search.config import SearchConfig
from fbnetv3.search.ledger import Trial
from fbnetv3.search.space import SearchSpace
from fbnetv3.training.data import ImageData, load_images
from fbnetv3.training.recipe import Recipe

if TYPE_CHECKING:  # run.py imports this module
    from fbnetv3.search.run import Found

METHODS = {"nars": "NARS", "random": "random search"}
_COLORS = {"nars": "#0072b2", "random": "#d55e00"}  # told apart by colour-blind readers too
_GREY = "#666666"


@dataclass(frozen=True)
class Round:
    """What the trials of a round came to; accuracy in percent, None where there is nothing to compute it from.

    Diverged trials are counted and otherwise left out.
    """

    trainings: int
    diverged: int
    epochs: tuple[int, ...]
    best: float | None
    median: float | None
    predicted: float | None  # mean
    spearman: float | None  # of predicted and measured, from three trials on
    error: float | None  # mean absolute difference of predicted and measured, in points


@dataclass(frozen=True)
class Plot:
    """A picture with what it shows in words."""

    name: str
    title: str
    caption: str
    png: bytes


def write_report(config: SearchConfig, space: SearchSpace, found: list[Found], path: Path) -> None:
    """Write the page to `path` and the plots to `plots/` beside it, every file whole or not at all.

    Args:
        found: what NARS found first, then, if it ran, random search.

    Raises:
        InputError: the folder cannot be written.
    """
    plots = _plots(config, found)
    page = _page(config, space, found, plots, load_images(config.data))
    for plot in plots:
        write_atomically(path.parent / "plots" / f"{plot.name}.png", plot.png)
    write_atomically(path, page)


def accuracy(trial: Trial, epochs: int) -> float | None:
    """Validation accuracy after `epochs`, or after the last epoch of a shorter trial; None if it diverged."""
    return trial.acc1[min(epochs, len(trial.acc1)) - 1] if trial.acc1 else None


def summarise(trials: Sequence[Trial], epochs: int) -> Round:
    """The figures of a round, of accuracy after `epochs`."""
    measured = np.array([acc for t in trials if (acc := accuracy(t, epochs)) is not None])
    pairs = _predicted_measured(trials, epochs)
    ranked = len(pairs) >= 3 and bool((np.ptp(pairs[:, [0, 2]], axis=0) > 0).all())
    return Round(
        trainings=len(trials),
        diverged=len(trials) - len(measured),
        epochs=tuple(sorted({t.epochs for t in trials})),
        best=float(measured.max()) if len(measured) else None,
        median=float(np.median(measured)) if len(measured) else None,
        predicted=float(pairs[:, 0].mean()) if len(pairs) else None,
        spearman=float(spearmanr(pairs[:, 0], pairs[:, 2])[0]) if ranked else None,
        error=float(np.abs(pairs[:, 0] - pairs[:, 2]).mean()) if len(pairs) else None,
    )


def _predicted_measured(trials: Iterable[Trial], epochs: int) -> Any:
    """Predicted mean, its deviation and measured accuracy [n, 3] of the trials that have both."""
    rows = [(*t.predicted, accuracy(t, epochs)) for t in trials if t.predicted is not None and t.acc1]
    return np.array(rows, float).reshape(-1, 3)


# The page -------------------------------------------------------------------------------------------------------------


def _page(config: SearchConfig, space: SearchSpace, found: list[Found], plots: list[Plot], data: ImageData) -> str:
    title = html.escape(f"Search report: {config.name}")
    body = [
        f"<h1>{title}</h1>",
        _text(config.about),
        _outcome(config, space, found, data),
        _pair(config, space, found[0]),
        _rounds(config, found),
        "<h2>Plots</h2>",
        *map(_figure, plots),
        _how_to_read(found[0], data),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _outcome(config: SearchConfig, space: SearchSpace, found: list[Found], data: ImageData) -> str:
    nars, *others = found
    limit, test = config.constraint, nars.pair.measured
    low = f"between {limit.min:,.0f} and" if limit.min else "at most"
    unit = "FLOPs (one multiply-add = 1)" if limit.metric == "flops" else "parameters"
    epochs = Counter(t.epochs for t in nars.trials)
    each = ", ".join(f"{n} of {_count(e, 'epoch')}" for e, n in sorted(epochs.items(), reverse=True))
    text = (
        f"NARS searched the space {space.name!r} ({_big(space.arch_size)} architectures, each with {_big(space.recipe_size)} "
        f"training recipes) for the pair of architecture and recipe that classifies {data.name} best with {low} "
        f"{limit.max:,.0f} {unit}, counted in the convention {limit.convention!r}. It trained "
        f"{_count(len(nars.trials), 'candidate')} ({each}), chose a pair and trained that for {_count(test['epochs'], 'epoch')}. "
        f"The pair found has {nars.flops:,} FLOPs and {nars.params:,} parameters, and it is right on "
        f"{test['acc1']:.2f}% of the {len(data.test):,} test images, which nothing before had used."
    )
    facts = [
        ("test accuracy", f"{test['acc1']:.2f}%"),
        ("FLOPs", f"{nars.flops:,}"),
        ("parameters", f"{nars.params:,}"),
    ]
    facts += [(f"test accuracy, {METHODS[f.method]}", f"{f.pair.measured['acc1']:.2f}%") for f in others]
    cards = "".join(f"<div><dd>{html.escape(value)}</dd><dt>{html.escape(name)}</dt></div>" for name, value in facts)
    head = ["method", "test accuracy", "val. accuracy", "FLOPs", "parameters", "trials", "epochs in all", "minutes"]
    rows = [
        [
            METHODS[f.method], f"{f.pair.measured['acc1']:.2f}%", f"{f.curve[-1]:.1f}%" if f.curve else "-", f"{f.flops:,}",
            f"{f.params:,}", str(len(f.trials)), str(sum(t.epochs for t in f.trials)),
            f"{sum(t.seconds for t in f.trials) / 60:.1f}",
        ]
        for f in found
    ]  # fmt: skip
    return "\n".join(
        [
            f'<p class="lead">{html.escape(text)}</p>',
            *(_text(_against(nars, other, len(data.test))) for other in others),
            f"<dl>{cards}</dl>",
            _table(head, rows),
            _note(
                "Accuracies are of the final training of the pair that each method chose; trials, epochs and minutes are "
                "what the method spent before it. Minutes are added up over trials, whether or not they ran side by side."
            ),
        ]
    )


def _against(nars: Found, other: Found, images: int) -> str:
    """The baseline's accuracy and the difference, with how little one run of each says."""
    mine, its = nars.pair.measured["acc1"], other.pair.measured["acc1"]
    gap = mine - its
    side = "the same" if abs(gap) < 0.005 else f"{abs(gap):.2f} points {'more' if gap > 0 else 'less'}"
    error = 100 * (max(its, 100 - its) / 100 * min(its, 100 - its) / 100 / images) ** 0.5
    return (
        f"For comparison, {METHODS[other.method]} also trained {_count(len(other.trials), 'candidate')} inside the constraint, "
        f"took the best measured one and gave it the same final training: {its:.2f}% of the test images. "
        f"NARS reached {side if gap else 'the same'}. This is one run of each: the choice of {images:,} test images alone "
        f"moves an accuracy by about {error:.1f} points (one standard error), and other seeds move it further, so the "
        "difference says nothing certain about which method is better."
    )


def _pair(config: SearchConfig, space: SearchSpace, nars: Found) -> str:
    pair = nars.pair
    mean, std = pair.predicted["mean"], pair.predicted["std"]
    predicted = (
        f"Predicted when it was chosen: {mean:.1f}% of the validation images after {_count(nars.proposal.epochs, 'epoch')} "
        f"(± {std:.1f}, the spread of the predictor's members). The final training is longer, so the test accuracy above "
        "is not what was predicted."
    )
    searched = {c.name: c for c in space.coordinates if not c.arch}
    factor = space.sgd_lr_factor if pair.recipe.optimizer == "sgd" else 1
    rows, marked = [], set()
    for name, value in sorted(pair.recipe.to_dict().items(), key=lambda item: item[0] not in searched):
        if name in searched:
            marked.add(len(rows))
            values = [v * factor if name == "lr" else v for v in searched[name].values]
            choices = (
                f"{_value(values[0])} to {_value(values[-1])}"
                if searched[name].ordered
                else ", ".join(map(_value, values))
            )
            origin = f"searched: {choices}"
        elif name in ("epochs", "lr_decay") and config.final_stretch > 1:
            origin = f"base recipe, stretched {config.final_stretch}-fold for the final training"
        else:
            origin = "base recipe"
        rows.append([name, _value(value), origin])
    return "\n".join(
        [
            "<h2>The pair</h2>",
            _text(predicted),
            "<h3>Architecture</h3>",
            _table(["stage", "block", "k", "e", "c", "n", "s", "se"], _arch_rows(pair.arch)),
            _note(
                f"For images of {pair.arch.resolution} x {pair.arch.resolution}. k: kernel, e: expansion, c: output channels, "
                "n: blocks in sequence, s: stride of the first, se: squeeze-and-excitation. Blocks: conv is a convolution, "
                "ir an inverted residual, pool the pooling head before the classifier."
            ),
            "<h3>Recipe</h3>",
            _table(["field", "value", "where it comes from"], rows, marked=marked, numeric=False),
            _note(f"Highlighted: chosen by the search. The others are those of the base recipe {config.recipe}."),
        ]
    )


def _arch_rows(arch: Arch) -> list[list[str]]:
    named = [("stem", arch.stem)]
    named += [(str(i), row) for i, stage in enumerate(arch.stages, 1) for row in stage]
    named += [("head", arch.head)] if arch.head is not None else []
    return [[stage, b.block, *map(str, (b.k, b.e, b.c, b.n, b.s)), "yes" if b.se else "-"] for stage, b in named]


def _rounds(config: SearchConfig, found: list[Found]) -> str:
    epochs = found[0].proposal.epochs
    head = [
        "round",
        "trainings",
        "epochs",
        "diverged",
        "best",
        "median",
        "mean predicted",
        "rank correlation",
        "mean abs. error",
    ]
    groups = [(str(number), trials) for number, trials in _by_round(found[0].trials)]
    groups += [(METHODS[f.method], list(f.trials)) for f in found[1:]]
    rows = []
    for name, trials in groups:
        r = summarise(trials, epochs)
        figures = [_number(r.best, "%"), _number(r.median, "%"), _number(r.predicted, "%")]
        figures += ["-" if r.spearman is None else f"{r.spearman:.2f}", _number(r.error)]
        rows.append([name, str(r.trainings), ", ".join(map(str, r.epochs)), str(r.diverged), *figures])
    note = (
        f"Validation accuracy after {_count(epochs, 'epoch')}, so that rounds compare. Round 1 is random and trains for the "
        "whole recipe. Rank correlation is Spearman's, of predicted and measured accuracy inside the round, from three "
        "trainings on; the error is in points. Diverged trainings are counted and otherwise left out."
    )
    lone = _text(
        "There was one round only. Predictions start once the first round is measured, so no trial has one to compare with; "
        "the pair was still chosen by prediction."
    )
    return "\n".join(
        ["<h2>Round by round</h2>", _table(head, rows), _note(note), *([lone] if config.rounds == 1 else [])]
    )


def _how_to_read(nars: Found, data: ImageData) -> str:
    splits = [len(data.train), len(data.val), len(data.test)]
    points = [
        "Validation accuracies guided the search: the best of many is too high on average. Only the test accuracy is unbiased; "
        f"the {splits[2]:,} test images were used once for each method, after everything was chosen.",
        f"Trials stop after few epochs ({nars.proposal.epochs} here) of the whole recipe. Their accuracies rank candidates; they do "
        f"not compare with that of the final training of {_count(nars.pair.measured['epochs'], 'epoch')}.",
        f"The data is a {sum(splits):,}-image subset ({splits[0]:,} to train, {splits[1]:,} to validate, {splits[2]:,} to test). "
        f"Accuracies on it do not compare with published ones on the whole of {data.name}.",
        "One search is one sample. Another seed may find another pair, better or worse.",
        "Same versions, processor type and seed give the same numbers again; other versions may not.",
    ]
    commands = (
        "fbnetv3 train --pair pair.yaml --out retrained\nfbnetv3 predict IMAGE --pair pair.yaml --weights weights.pt"
    )
    made = {"seed": nars.pair.seed, "space": nars.pair.space} | nars.pair.provenance
    return "\n".join(
        [
            "<h2>How to read this, and what it is not</h2>",
            "<ul>" + "".join(f"<li>{html.escape(point)}</li>" for point in points) + "</ul>",
            "<h3>Use the pair</h3>",
            _text(
                "In the folder of this page: train the pair again, or classify an image with the weights that were measured here."
            ),
            f"<pre>{html.escape(commands)}</pre>",
            "<h3>Seeds and versions</h3>",
            _table(
                ["what", "value"],
                [[key.replace("_", " "), _value(value)] for key, value in made.items()],
                numeric=False,
            ),
        ]
    )


def _by_round(trials: Iterable[Trial]) -> list[tuple[int, list[Trial]]]:
    rounds: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.round, t.index)):
        rounds.setdefault(trial.round, []).append(trial)
    return list(rounds.items())


# Pieces of HTML: the only places where text becomes markup, and all of it is escaped ----------------------------------


def _text(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, marked: Iterable[int] = (), numeric: bool = True
) -> str:
    """Rows of text; numeric tables align all but the first column right, marked rows are highlighted."""
    chosen = set(marked)
    lines = [f"<tr>{''.join(f'<th scope=col>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{' class=marked' if i in chosen else ''}>{cells}</tr>")
    return f'<div class="scroll"><table{" class=numeric" if numeric else ""}>' + "\n".join(lines) + "</table></div>"


def _figure(plot: Plot) -> str:
    source = "data:image/png;base64," + base64.b64encode(plot.png).decode()
    title, caption = html.escape(plot.title), html.escape(plot.caption)
    return f'<figure><h3>{title}</h3><img src="{source}" alt="{title}"><figcaption>{caption}</figcaption></figure>'


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _big(n: int) -> str:
    if n < 10**9:
        return f"{n:,}"
    mantissa, exponent = f"{n:.1e}".split("e+")
    return f"{mantissa} × 10^{int(exponent)}"


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.1f}{unit}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Plots ----------------------------------------------------------------------------------------------------------------


def _plots(config: SearchConfig, found: list[Found]) -> list[Plot]:
    """The plots that there is data for."""
    plots = [_plot_rounds(found)]
    if any(t.predicted is not None and t.acc1 for t in found[0].trials):
        plots.append(_plot_predicted(found[0]))
    plots.append(_plot_cost(config, found))
    if any(f.curve for f in found):
        plots.append(_plot_final(found))
    if found[0].proposal.history:
        plots.append(_plot_evolution(found[0]))
    return plots


def _axes(x: str, y: str) -> tuple[Any, Any]:
    # Imported here, so that a search starts without matplotlib; without pyplot, so that no state is shared.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.8, 3.6), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _whole_ticks(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _plot(name: str, title: str, caption: str, figure: Any) -> Plot:
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", metadata={"Software": None}
    )  # no version, so that equal searches have equal plots
    return Plot(name, title, caption, buffer.getvalue())


def _plot_rounds(found: list[Found]) -> Plot:
    epochs = found[0].proposal.epochs
    figure, axes = _axes("round", f"validation accuracy after {_count(epochs, 'epoch')}, %")
    groups = [("nars", str(number), trials) for number, trials in _by_round(found[0].trials)]
    groups += [(f.method, METHODS[f.method], list(f.trials)) for f in found[1:]]
    for x, (method, _, trials) in enumerate(groups):
        values = [acc for t in trials if (acc := accuracy(t, epochs)) is not None]
        axes.scatter(
            x + np.linspace(-0.2, 0.2, len(values)), values, s=22, color=_COLORS[method], alpha=0.75, linewidths=0
        )
        if values:
            axes.hlines(np.median(values), x - 0.32, x + 0.32, color=_COLORS[method], linewidth=2)
    axes.set_xticks(range(len(groups)), [name for _, name, _ in groups])
    caption = (
        "A dot is a training, a line the median of its round. Round 1 is random; from round 2 on the predictor chooses."
    )
    return _plot("accuracy_by_round", "Measured accuracy by round", caption, figure)


def _plot_predicted(nars: Found) -> Plot:
    epochs = nars.proposal.epochs
    figure, axes = _axes("predicted accuracy, %", f"measured after {_count(epochs, 'epoch')}, %")
    rounds = [(number, _predicted_measured(trials, epochs)) for number, trials in _by_round(nars.trials)]
    rounds = [(number, pairs) for number, pairs in rounds if len(pairs)]
    for i, (number, pairs) in enumerate(rounds):
        shade = 0.25 + 0.75 * (i + 1) / len(rounds)
        style = {"fmt": "oDs^v"[i % 5], "markersize": 5, "elinewidth": 0.8, "alpha": shade, "linestyle": "none"}
        axes.errorbar(
            pairs[:, 0], pairs[:, 2], xerr=pairs[:, 1], color=_COLORS["nars"], label=f"round {number}", **style
        )
    middle = float(np.mean(rounds[0][1][:, [0, 2]]))
    axes.axline((middle, middle), slope=1, color=_GREY, linestyle="--", linewidth=1, label="predicted = measured")
    caption = "Only trainings that had a prediction before they were measured. Bars: one deviation of the predictor's members."
    return _plot("predicted_vs_measured", "Predicted and measured accuracy", caption, figure)


def _plot_cost(config: SearchConfig, found: list[Found]) -> Plot:
    from matplotlib.ticker import EngFormatter

    limit, epochs = config.constraint, found[0].proposal.epochs
    name = "FLOPs" if limit.metric == "flops" else "parameters"
    figure, axes = _axes(name, f"validation accuracy after {_count(epochs, 'epoch')}, %")
    costs: list[int] = []
    for f in found:
        points = [(getattr(t, limit.metric), acc, t) for t in f.trials if (acc := accuracy(t, epochs)) is not None]
        x, y = [p[0] for p in points], [p[1] for p in points]
        axes.scatter(x, y, s=22, color=_COLORS[f.method], alpha=0.75, linewidths=0, label=METHODS[f.method])
        chosen = getattr(f, limit.metric)
        costs += [*x, chosen]
        axes.axvline(
            chosen, color=_COLORS[f.method], linestyle=":", linewidth=1.5, label=f"pair of {METHODS[f.method]}"
        )
        ringed = [(x, y) for x, y, t in points if tuple(t.candidate) == f.proposal.candidate]
        axes.scatter(
            *zip(*ringed, strict=True) if ringed else ([], []), s=90, facecolors="none", edgecolors=_COLORS[f.method]
        )
    edges = [edge for edge in {limit.min, limit.max} if min(costs) / 1.5 <= edge <= max(costs) * 1.5]
    for i, edge in enumerate(edges):
        axes.axvline(edge, color=_GREY, linestyle="--", linewidth=1, label=None if i else "constraint")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    caption = (
        f"A dot is a training. Dotted: the {name} of the chosen pair, which was trained longer in the end, so that its final "
        "accuracy does not belong on this axis; a ring marks it where it had been a trial itself."
    )
    return _plot("accuracy_vs_cost", f"Accuracy and {name} of all trials", caption, figure)


def _plot_final(found: list[Found]) -> Plot:
    figure, axes = _axes("epoch", "validation accuracy, %")
    for f in found:
        style = {"color": _COLORS[f.method], "marker": "o", "markersize": 4, "label": METHODS[f.method]}
        axes.plot(range(1, len(f.curve) + 1), f.curve, **style)
    _whole_ticks(axes.xaxis)
    caption = (
        "Validation accuracy after every epoch of the final training. The test images are used once, after the last."
    )
    return _plot("final_training", "Final training of the chosen pair", caption, figure)


def _plot_evolution(nars: Found) -> Plot:
    figure, axes = _axes("generation", "best predicted accuracy, %")
    axes.plot(range(len(nars.proposal.history)), nars.proposal.history, color=_COLORS["nars"], marker="o", markersize=4)
    axes.ticklabel_format(useOffset=False)
    _whole_ticks(axes.xaxis)
    caption = "Stage 3: the highest prediction in every generation of the evolution; generation 0 is trials and random candidates."
    return _plot("evolution", "Evolution", caption, figure)


_CSS = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5a646e; --line: #d9dee3; --back: #fff; --soft: #f4f6f8; --mark: #fff3cf }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --dim: #a0a8b0; --line: #373d44; --back: #16191d; --soft: #1f2429; --mark: #463a16 }
  img { filter: invert(.9) hue-rotate(180deg) }
}
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .6rem }
h1 { margin-top: 0 }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }
.lead { font-size: 1.1rem }
.note, figcaption { color: var(--dim); font-size: .875rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0 }
dl div { display: flex; flex-direction: column; padding: .75rem 1rem; border-radius: .5rem; background: var(--soft) }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums }
dt { color: var(--dim); font-size: .875rem }
.scroll { overflow-x: auto; margin: 1rem 0 .5rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 60% }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--dim); font-weight: 600; vertical-align: bottom }
.numeric :is(th, td):not(:first-child) { text-align: right }
.marked td { background: var(--mark) }
pre { padding: .8rem 1rem; border-radius: .5rem; background: var(--soft); overflow-x: auto; font-size: .875rem }
figure { margin: 2rem 0 }
figure h3 { margin: 0 0 .5rem }
img { display: block; width: 100%; max-width: 36rem; height: auto; border-radius: .5rem }
li { margin: .4rem 0 }
"""
