"""The report of a search: one self-contained HTML page, and its plots as PNG files in `plots/` beside it.

Trials are compared by their accuracy after the same number of epochs, that of the early stopping (section 3.3), also
those that trained longer.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from fbnetv3.arch import Arch
from fbnetv3.files import write_atomically
from fbnetv3.search.config import SearchConfig
from fbnetv3.search.ledger import Trial
from fbnetv3.search.space import SearchSpace
from fbnetv3.training.data import ImageData, load_images

if TYPE_CHECKING:  # run.py imports this module
    from fbnetv3.search.run import Found

METHODS = {"nars": "NARS", "random": "random search"}
_COLORS = {"nars": "#0072b2", "random": "#d55e00"}  # of a palette that colour-blind readers can tell apart
_GREY = "#666666"


@dataclass(frozen=True)
class Plot:
    """A PNG with its words; `name` is that of its file."""

    name: str
    title: str
    caption: str
    png: bytes


def write_report(config: SearchConfig, space: SearchSpace, found: list[Found], path: Path) -> None:
    """Write the page to `path` and the plots to `plots/` beside it, every file whole or not at all.

    Args:
        found: of NARS first and then, if it ran, of random search.

    Raises:
        InputError: the folder cannot be written.
    """
    plots = _plots(config, found)
    page = _page(config, space, found, plots, load_images(config.data or config.name))
    for plot in plots:
        write_atomically(path.parent / "plots" / f"{plot.name}.png", plot.png)
    write_atomically(path, page)


def accuracies(trials: Iterable[Trial], epochs: int) -> list[float]:
    """Validation accuracy after `epochs`, or the last of a shorter trial; those that diverged are left out."""
    return [t.acc1[min(epochs, len(t.acc1)) - 1] for t in trials if t.acc1]


def predictions(trials: Iterable[Trial], epochs: int) -> Any:
    """Predicted mean, its deviation and measured accuracy, an array [n, 3], of the trials that have them."""
    rows = [(*t.predicted, *accuracies([t], epochs)) for t in trials if t.predicted is not None and t.acc1]
    return np.array(rows, float).reshape(-1, 3)


def summary(trials: Sequence[Trial], epochs: int) -> list[str]:
    """A round's cells of the table, '-' for what cannot be computed; see `_ROUNDS` for the columns."""
    measured, pairs = accuracies(trials, epochs), predictions(trials, epochs)
    cells = [str(len(trials)), ", ".join(map(str, sorted({t.epochs for t in trials})))]
    cells += [str(len(trials) - len(measured))]
    cells += [f"{max(measured):.1f}%", f"{np.median(measured):.1f}%"] if measured else ["-", "-"]
    mean, truth = pairs[:, 0], pairs[:, 2]
    cells += [f"{mean.mean():.1f}%"] if len(pairs) else ["-"]
    ranked = len(pairs) >= 3 and np.ptp(mean) > 0 and np.ptp(truth) > 0
    cells += [f"{spearmanr(mean, truth)[0]:.2f}"] if ranked else ["-"]
    return cells + ([f"{np.abs(mean - truth).mean():.1f}"] if len(pairs) else ["-"])


def by_round(trials: Iterable[Trial]) -> dict[int, list[Trial]]:
    """Trials of every round, both in order."""
    rounds: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.round, t.index)):
        rounds.setdefault(trial.round, []).append(trial)
    return rounds


def _groups(found: list[Found]) -> list[tuple[str, str, list[Trial]]]:
    """Method, name and trials of NARS's rounds, and of the baseline as one more."""
    nars = found[0]
    rounds = [("nars", _round_name(nars, number), trials) for number, trials in by_round(nars.trials).items()]
    return rounds + [(f.method, METHODS[f.method], list(f.trials)) for f in found[1:]]


def _round_name(nars: Found, number: int) -> str:
    last = bool(nars.proposal.finalists) and number == max(t.round for t in nars.trials)
    return "finalists" if last else str(number)


def _finalists(nars: Found) -> str:
    """Predicted and measured side by side, in the order predicted, the chosen one marked."""
    rows, finalists = [], nars.proposal.finalists
    for i, f in enumerate(finalists, 1):
        mean, std = f.predicted
        rows.append([str(i), f"{mean:.1f} ± {std:.1f}%", f"{f.measured:.1f}%", f"{f.final:.1f}%"])
    chosen = [i for i, f in enumerate(finalists) if f.candidate == nars.proposal.candidate]
    return _FINALISTS.substitute(table=_table(_FINALIST_HEAD, rows, marked=chosen))


def _page(config: SearchConfig, space: SearchSpace, found: list[Found], plots: list[Plot], data: ImageData) -> str:
    nars, *others = found
    pair, limit, epochs = nars.pair, config.constraint, nars.proposal.epochs
    spent = Counter(t.epochs for t in nars.trials)
    facts = [("test accuracy", f"{pair.measured['acc1']:.2f}%")]
    facts += [(f"test accuracy, {METHODS[f.method]}", f"{f.pair.measured['acc1']:.2f}%") for f in others]
    facts += [("FLOPs", f"{nars.flops:,}"), ("parameters", f"{nars.params:,}")]
    made = {"seed": pair.seed, "space": pair.space} | pair.provenance
    text = {
        "name": config.name,
        "about": config.about,
        "space": space.name,
        "archs": _big(space.arch_size),
        "recipes": _big(space.recipe_size),
        "data": data.name,
        "limit": (f"{limit.min:,.0f} to " if limit.min else "at most ") + f"{limit.max:,.0f}",
        "metric": "FLOPs (one multiply-add = 1)" if limit.metric == "flops" else "parameters",
        "convention": limit.convention,
        "candidates": _count(len(nars.trials), "candidate"),
        "spent": ", ".join(f"{n} for {_count(e, 'epoch')}" for e, n in sorted(spent.items(), reverse=True)),
        "final": _count(pair.measured["epochs"], "epoch"),
        "flops": f"{nars.flops:,}",
        "params": f"{nars.params:,}",
        "acc1": f"{pair.measured['acc1']:.2f}",
        "mean": f"{pair.predicted['mean']:.1f}",
        "std": f"{pair.predicted['std']:.1f}",
        "epochs": _count(epochs, "epoch"),
        "resolution": pair.arch.resolution,
        "base": config.recipe,
        "images": f"{len(data.train) + len(data.val) + len(data.test):,}",
        **{split: f"{len(data.split(split)):,}" for split in ("train", "val", "test")},
    }
    recipe, searched = _recipe_rows(config, space, nars)
    markup = {
        "css": _CSS,
        "versus": "".join(_versus(nars, other, len(data.test)) for other in others),
        "facts": "".join(f"<div><dd>{html.escape(v)}</dd><dt>{html.escape(k)}</dt></div>" for k, v in facts),
        "arch": _table(("stage", "block", "k", "e", "c", "n", "s", "se"), _arch_rows(pair.arch)),
        "recipe": _table(("field", "value", "where it comes from"), recipe, "words", searched),
        "rounds": _table(_ROUNDS, [[name, *summary(trials, epochs)] for _, name, trials in _groups(found)]),
        "finalists": _finalists(nars) if nars.proposal.finalists else "",
        "lone": _LONE if config.rounds == 1 else "",
        "plots": "".join(map(_figure, plots)),
        "made": _table(("what", "value"), [[k.replace("_", " "), _value(v)] for k, v in made.items()], "words"),
    }
    return _fill(_PAGE, text, markup)


def _versus(nars: Found, other: Found, images: int) -> str:
    """The baseline's accuracy and the difference, with how little one run of each says."""
    its = other.pair.measured["acc1"]
    gap = round(its - nars.pair.measured["acc1"], 2)
    text = {
        "other": METHODS[other.method],
        "candidates": _count(len(other.trials), "candidate"),
        "epochs": f"{sum(t.epochs for t in other.trials):,}",
        "own": f"{sum(t.epochs for t in nars.trials):,}",
        "acc1": f"{its:.2f}",
        "gap": f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'}" if gap else "the same as",
        "test": f"{images:,}",
        "error": f"{(its * (100 - its) / images) ** 0.5:.1f}",
    }
    return _fill(_VERSUS, text, {})


def _arch_rows(arch: Arch) -> list[list[str]]:
    named = [("stem", arch.stem)]
    named += [(str(i), row) for i, stage in enumerate(arch.stages, 1) for row in stage]
    named += [("head", arch.head)] if arch.head is not None else []
    return [[name, b.block, *map(str, (b.k, b.e, b.c, b.n, b.s)), "yes" if b.se else "-"] for name, b in named]


def _recipe_rows(config: SearchConfig, space: SearchSpace, nars: Found) -> tuple[list[list[str]], range]:
    """Field, value and origin, the searched ones first, and which rows those are."""
    recipe = nars.pair.recipe.to_dict()
    rows = []
    for c in space.coordinates:
        if not c.arch:
            factor = space.sgd_lr_factor if c.name == "lr" and recipe["optimizer"] == "sgd" else 1
            values = [_value(v if factor == 1 else v * factor) for v in c.values]
            choices = f"{values[0]} to {values[-1]}" if c.ordered else ", ".join(values)
            rows.append([c.name, _value(recipe.pop(c.name)), f"searched: {choices}"])
    searched, stretch = range(len(rows)), config.final_stretch
    for name, value in recipe.items():
        longer = name in ("epochs", "lr_decay") and stretch > 1
        rows.append([name, _value(value), f"base recipe, stretched {stretch} times" if longer else "base recipe"])
    return rows, searched


# Text becomes markup in these three functions, which escape it.


def _fill(template: Template, text: Mapping[str, object], markup: Mapping[str, str]) -> str:
    return template.substitute({name: html.escape(str(value)) for name, value in text.items()} | dict(markup))


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers", marked: Collection[int] = ()
) -> str:
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    for i, row in enumerate(rows):
        start = '<tr class="marked">' if i in marked else "<tr>"
        lines.append(f"{start}{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>")
    return f'<div class="scroll"><table class="{kind}">\n' + "\n".join(lines) + "\n</table></div>"


def _figure(plot: Plot) -> str:
    title, source = html.escape(plot.title), base64.b64encode(plot.png).decode()
    return (
        f'<figure><h3>{title}</h3>\n<img alt="Plot: {title}" src="data:image/png;base64,{source}">\n'
        f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>\n"
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _big(n: int) -> str:
    return f"{n:,}" if n < 10**9 else f"about 10^{len(str(n)) - 1}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plots(config: SearchConfig, found: list[Found]) -> list[Plot]:
    """The plots that there are data for."""
    nars = found[0]
    plots = [_plot_rounds(found)]
    if len(predictions(nars.trials, nars.proposal.epochs)):
        plots.append(_plot_predicted(nars))
    plots += [_plot_cost(config, found), _plot_final(found)]
    if nars.proposal.history:
        plots.append(_plot_evolution(nars, config.evolution.caution))
    return plots


def plot_axes(x: str, y: str) -> Any:
    """Empty axes in the report's style."""
    # Imported here, so that a search starts without it; and without pyplot, which holds global state.
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5.8, 3.6), dpi=160, layout="constrained").add_subplot(xlabel=x, ylabel=y)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _plot(name: str, title: str, caption: str, axes: Any, *, whole: bool = False) -> Plot:
    """Finish a plot; `whole` asks for whole numbers below."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8)
    if whole:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    buffer = io.BytesIO()
    # Without the version that matplotlib adds: equal searches have equal files.
    axes.figure.savefig(buffer, format="png", metadata={"Software": None})
    return Plot(name, title, caption, buffer.getvalue())


def _plot_rounds(found: list[Found]) -> Plot:
    epochs, groups = found[0].proposal.epochs, _groups(found)
    axes = plot_axes("round", f"validation accuracy (%), {_count(epochs, 'epoch')}")
    for x, (method, _, trials) in enumerate(groups):
        y, color = accuracies(trials, epochs), _COLORS[method]
        axes.scatter(x + np.linspace(-0.2, 0.2, len(y)), y, s=22, color=color, alpha=0.7, linewidths=0)
        if y:
            axes.hlines(np.median(y), x - 0.32, x + 0.32, color=color, linewidth=2)
    axes.set_xticks(range(len(groups)), [name for _, name, _ in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    caption = "A dot is a training, a line the median. Round 1 is random; later ones are what the predictor favours."
    return _plot("accuracy_by_round", "Measured accuracy by round", caption, axes)


def _plot_predicted(nars: Found) -> Plot:
    epochs = nars.proposal.epochs
    axes = plot_axes("predicted accuracy (%)", f"measured accuracy (%), {_count(epochs, 'epoch')}")
    rounds = {number: predictions(trials, epochs) for number, trials in by_round(nars.trials).items()}
    rounds = {number: pairs for number, pairs in rounds.items() if len(pairs)}
    for i, (number, (mean, std, truth)) in enumerate((n, pairs.T) for n, pairs in rounds.items()):
        style = {"fmt": "oDs^v"[i % 5], "markersize": 5, "elinewidth": 0.8, "alpha": 0.3 + 0.7 * (i + 1) / len(rounds)}
        axes.errorbar(
            mean,
            truth,
            xerr=std,
            color=_COLORS["nars"],
            label=name if (name := _round_name(nars, number)) == "finalists" else f"round {name}",
            **style,
        )
    mean, std, truth = np.concatenate(list(rounds.values())).T
    ends = np.array([min((mean - std).min(), truth.min()) - 0.5, max((mean + std).max(), truth.max()) + 0.5])
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1, label="measured = predicted")
    axes.set(xlim=ends, ylim=ends)
    caption = "Trainings that were predicted before they were measured; a bar is the spread of the predictor's members."
    return _plot("predicted_vs_measured", "Predicted and measured accuracy", caption, axes)


def _plot_cost(config: SearchConfig, found: list[Found]) -> Plot:
    from matplotlib.ticker import EngFormatter

    limit, epochs, final = config.constraint, found[0].proposal.epochs, found[0].pair.measured["epochs"]
    name = "FLOPs" if limit.metric == "flops" else "parameters"
    axes = plot_axes(name, f"validation accuracy (%), {_count(epochs, 'epoch')}")
    costs = []
    for f in found:
        color, trials, own = _COLORS[f.method], [t for t in f.trials if t.acc1], getattr(f, limit.metric)
        x, y = [getattr(t, limit.metric) for t in trials], accuracies(trials, epochs)
        ring = [color if tuple(t.candidate) == f.proposal.candidate else "none" for t in trials]
        axes.scatter(x, y, s=22, color=color, alpha=0.7, linewidths=0, label=METHODS[f.method])
        axes.scatter(x, y, s=90, facecolors="none", edgecolors=ring)
        axes.axvline(own, color=color, linestyle=":", label=f"pair of {METHODS[f.method]}")
        costs += [*x, own]
    for edge, label in ((limit.max, "constraint"), (limit.min, None)):
        if min(costs) / 1.5 < edge < max(costs) * 1.5:  # one far away would squeeze the dots together
            axes.axvline(edge, color=_GREY, linestyle="--", linewidth=1, label=label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    caption = (
        f"A dot is a training. Dotted: the {name} of the chosen pair, whose accuracy after {_count(final, 'epoch')} "
        "does not belong here. A ring marks it if it had been a trial before."
    )
    return _plot("accuracy_vs_cost", f"Accuracy and {name}", caption, axes)


def _plot_final(found: list[Found]) -> Plot:
    axes = plot_axes("epoch", "validation accuracy (%)")
    for f in found:
        style = {"color": _COLORS[f.method], "marker": "o", "markersize": 4, "label": METHODS[f.method]}
        axes.plot(range(1, len(f.curve) + 1), f.curve, **style)
    caption = "Validation accuracy after every epoch. The test images are classified once, after the last."
    return _plot("final_training", "Final training of the chosen pair", caption, axes, whole=True)


def _plot_evolution(nars: Found, caution: float) -> Plot:
    axes = plot_axes("generation", "best score (%)")
    axes.plot(nars.proposal.history, color=_COLORS["nars"], marker="o", markersize=4)
    axes.ticklabel_format(useOffset=False)
    caption = (
        f"The highest score of every generation, predicted accuracy less {caution:g} deviations of it; generation 0 holds "
        "the best trials and random candidates."
    )
    return _plot("evolution", "Evolution by the predictor's score", caption, axes, whole=True)


_ROUNDS = (
    "round", "trainings", "epochs", "diverged", "best", "median", "mean predicted", "rank corr.", "mean error"
)  # fmt: skip

_FINALIST_HEAD = ("finalist", "predicted", "measured, as long", "measured, all epochs")
_FINALISTS = Template("""
<h2>Finalists</h2>
<p>The pairs of the highest predicted scores and the best trial, trained before one was chosen: an evolution finds where
the predictor is wrong as surely as where the pairs are good. The best after all epochs, highlighted, is the pair of this
page.</p>
$table
""")

_LONE = """
<p>There was one round only. The predictor learns from measured trials, so none of these had a prediction to compare
with; the pair was still chosen by prediction.</p>
"""

_VERSUS = Template("""
<p>To compare, $other also trained $candidates inside the constraint ($epochs epochs in all; NARS took $own) and gave
the best measured one the same final training: $acc1% of the test images, $gap NARS. That is one run of each. The draw
of $test test images alone gives an accuracy a standard error of about $error points, and the seeds add to it, so the
difference does not show that one method is better.</p>
""")

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Search report: $name</title>
<style>$css</style>
</head>
<body>
<main>
<h1>Search report: $name</h1>
<p class="note">$about</p>
<p class="lead">NARS searched the space $space ($archs architectures, each with any of $recipes training recipes) for
the pair of the highest predicted accuracy on $data with $limit $metric in the convention &ldquo;$convention&rdquo;. It
trained $candidates ($spent), chose a pair and trained that for $final. The pair has $flops FLOPs and $params parameters
and classifies <b>$acc1%</b> of the $test test images correctly, which no earlier step had used.</p>
$versus
<dl>$facts</dl>

<h2>The pair</h2>
<p>When it was chosen, its predicted validation accuracy after $epochs was $mean% (the predictor's members differ by
$std points). That is not the test accuracy above: the final training took $final, and its images are others.</p>
<h3>Architecture</h3>
$arch
<p class="note">For images of $resolution &times; $resolution. k: kernel; e: expansion; c: output channels; n: blocks in
sequence; s: stride of the first; se: squeeze-and-excitation. conv: convolution; ir: inverted residual; pool: pooling
head before the classifier.</p>
<h3>Recipe</h3>
$recipe
<p class="note">Highlighted fields were searched; the others are those of the base recipe $base.</p>

<h2>Round by round</h2>
$rounds
<p class="note">Validation accuracy after $epochs, in every row, so that rows compare. Rank correlation (Spearman) and
mean absolute error, in points, are between predicted and measured accuracy. Diverged trainings are only counted.</p>
$lone
$finalists

<h2>Plots</h2>
$plots

<h2>How to read this, and what it is not</h2>
<ul>
<li>The validation accuracies guided the search, and the best of many is too good on average. Only the test accuracy is
unbiased: its images were used once for each method, when all was chosen.</li>
<li>Accuracies of trials are those after $epochs. They rank candidates, and do not compare with the final training of
$final.</li>
<li>The data is an $images-image subset ($train to train, $val to validate, $test to test): no accuracy here compares
with one published for the full data set.</li>
<li>One search is one sample; another seed may find a better or a worse pair. The same seed and versions on the same
kind of machine find this one again.</li>
</ul>
<h3>Use the pair</h3>
<p>In the folder of this page: train the pair again, or classify an image with the weights that were measured here.</p>
<pre>fbnetv3 train --pair pair.yaml --out retrained
fbnetv3 predict IMAGE --pair pair.yaml --weights weights.pt</pre>
<h3>Seeds and versions</h3>
$made
</main>
</body>
</html>
""")

_CSS = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5a646e; --line: #d9dee3; --back: #fff; --soft: #f3f5f7;
  --mark: #fff3cf }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --dim: #a0a8b0; --line: #3c3f43; --back: #1a1a1a; --soft: #262626; --mark: #40361a }
  img { filter: invert(.9) hue-rotate(180deg) }
}
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .6rem }
h1 { margin: 0 }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }
.lead { font-size: 1.1rem }
.note, figcaption { color: var(--dim); font-size: .875rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0 }
dl div { display: flex; flex-direction: column; padding: .75rem 1rem; border-radius: .5rem; background: var(--soft) }
dd { margin: 0; font-size: 1.5rem; font-weight: 600 }
dt { color: var(--dim); font-size: .875rem }
.scroll { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; min-width: 60%; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); text-align: left }
th { color: var(--dim); vertical-align: bottom }
.numbers :is(th, td):not(:first-child) { text-align: right }
.marked { background: var(--mark) }
pre { padding: .8rem 1rem; border-radius: .5rem; background: var(--soft); overflow-x: auto; font-size: .875rem }
figure { margin: 2rem 0 }
figure h3 { margin: 0 0 .5rem }
figcaption { margin-top: .4rem }
img { display: block; width: 100%; max-width: 36rem; border-radius: .5rem }
li { margin: .4rem 0 }
"""
