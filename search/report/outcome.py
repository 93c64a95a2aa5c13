"""The first screen of a report: what was found, how sure that is, and what it is better than."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from fbnetv3.pages.markup import fill
from fbnetv3.pages.plots import GREY, Plot, count, plot_axes, png_of
from fbnetv3.pair_file import Pair
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.report import template as words
from fbnetv3.search.report.plots import COLORS
from fbnetv3.search.runs.confirm import BASE, NAMES, Confirmation, Estimate
from fbnetv3.search.runs.folder import METHODS, SearchResult
from fbnetv3.search.runs.inputs import recipe_name
from fbnetv3.training.accuracy import image_interval
from fbnetv3.training.data.packaged import DATA, load_images

SPLITS = {"test": "test", "val": "validation"}  # in words


def outcome(
    config: SearchConfig, results: Sequence[SearchResult], counts: Mapping[str, int], confirmation: Confirmation | None
) -> str:
    """Return the first screen as HTML.

    Args:
        counts: see `image_counts`.
        confirmation: accuracies of more seeds, if there are any.
    """
    nars, *others = results
    split = split_of(nars)
    mean = confirmation and confirmation.estimate("nars")
    text = {
        "flops": f"{nars.flops:,}",
        "params": f"{nars.params:,}",
        "final": count(nars.pair.recipe.epochs, "epoch"),
        "acc1": f"{mean.mean if mean else nars.pair.measured.get('acc1', 0.0):.2f}%",
        "images": f"{counts[split]:,} {SPLITS[split]} images" if split in counts else f"{SPLITS.get(split)} images",
    }
    sure = ""
    if split in counts and not confirmation:
        low, high = image_interval(nars.pair.measured["acc1"], counts[split])
        sure = fill(words.BY_IMAGES, {"low": f"{low:.1f}", "high": f"{high:.1f}"}, {})
    if confirmation and mean:
        seeds = count(len(confirmation.ended("nars")), "training")
        sure = fill(words.SURE, {"seeds": seeds, "interval": _interval(mean, "%")}, {})
    said = fill(words.OUTCOME[split], text, {"sure": sure})
    shown = [fill(words.FOUND_PAIR, text, {"outcome": said})]
    if confirmation:
        return "".join([*shown, _gains(config, results, confirmation)])
    if split:
        shown += [_versus(nars, other, counts) for other in others] + [words.CONFIRM]
    facts = "".join(f"<div><dd>{html.escape(v)}</dd><dt>{html.escape(k)}</dt></div>" for k, v in _facts(results))
    return "".join([*shown, f"<dl>{facts}</dl>"])


def plot_answers(confirmation: Confirmation) -> Plot:
    """Plot the accuracy of every training of every answer, with means and intervals."""
    axes = plot_axes(f"{SPLITS[confirmation.split]} accuracy (%)", "")
    names = list(confirmation.accuracies)
    for y, name in zip(reversed(range(len(names))), names, strict=True):
        color, values, mean = COLORS.get(name, GREY), confirmation.ended(name), confirmation.estimate(name)
        axes.scatter(values, [y] * len(values), s=26, color=color, alpha=0.55, linewidths=0)
        if mean is None:
            continue
        if mean.low is not None:
            axes.plot([mean.low, mean.high], [y + 0.16] * 2, color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot(mean.mean, y + 0.16, marker="D", color=color, markersize=6)
        axes.annotate(
            f"{mean.mean:.2f}", (mean.mean, y + 0.16), (0, 6), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.set_yticks(range(len(names)), [_label(name) for name in reversed(names)], fontsize=8.5)
    axes.set_ylim(-0.5, len(names) - 0.2)
    axes.grid(axis="y", visible=False)
    axes.figure.set_figheight(0.9 + 0.6 * len(names))
    caption = (
        f"Dots are trainings of {count(confirmation.epochs, 'epoch')} with different seeds, diamonds their means with "
        "95% intervals."
    )
    return Plot("answers", "The answer and what it is compared with", caption, png_of(axes.figure))


def image_counts(config: SearchConfig) -> dict[str, int]:
    """Return the numbers of images of the package's own data, by split and in all; nothing for other data."""
    if config.data is None or config.data not in DATA:
        return {}
    data = load_images(config.data)
    sizes = {split: len(data.split(split)) for split in ("train", "val", "test")}
    return sizes | {"images": sum(sizes.values())}


def percent(pair: Pair) -> str:
    """Return the accuracy of the final training, or a dash."""
    return f"{pair.measured['acc1']:.2f}" if pair.measured else "-"


def split_of(results: SearchResult) -> str:
    """Return the split that the final training was measured on: test, val, or '' without a final training."""
    return str(results.pair.measured.get("split", ""))


def _label(name: str) -> str:
    return {"nars": "NARS", BASE: "same network,\nbase recipe"}.get(name, NAMES[name])


def _facts(results: Sequence[SearchResult]) -> list[tuple[str, str]]:
    nars, *others = results
    facts = list[tuple[str, str]]()
    if name := SPLITS.get(split_of(nars)):
        facts = [(f"{name} accuracy", f"{percent(nars.pair)}%")]
        facts += [(f"{name} accuracy, {METHODS[f.method]}", f"{percent(f.pair)}%") for f in others]
    return [*facts, ("FLOPs", f"{nars.flops:,}"), ("parameters", f"{nars.params:,}")]


def _gains(config: SearchConfig, results: Sequence[SearchResult], confirmation: Confirmation) -> str:
    """Return by how much NARS's answer is better than the others; nothing if there are no others."""
    others = {r.method: r for r in results}
    rows = []
    for name in confirmation.accuracies:
        gain = None if name == "nars" else confirmation.gain(name)
        if gain is None:
            continue
        if name == BASE:
            other = fill(words.BASE_RECIPE, {"base": recipe_name(config)}, {})
        else:
            trained = count(len(others[name].trials), "candidate")
            other = fill(words.RIVAL, {"other": METHODS[name], "candidates": trained}, {})
        side = "above" if gain.mean > 0 else "below"
        sure = gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
        text = {"gap": f"{abs(gain.mean):.2f} points {side}", "interval": _interval(gain, "", "+")}
        rows.append(fill(words.GAIN, text, {"other": other, "verdict": "" if sure else words.UNCLEAR}))
    return fill(words.GAINS, {}, {"rows": "".join(rows)}) if rows else ""


def _interval(estimate: Estimate, unit: str, sign: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" (95% interval {estimate.low:{sign}.2f}{unit} to {estimate.high:{sign}.2f}{unit})"


def _versus(nars: SearchResult, other: SearchResult, counts: Mapping[str, int]) -> str:
    """Return the text that compares NARS with a baseline, and that says how little one run of each shows."""
    its, split = other.pair.measured["acc1"], split_of(nars)
    gap = round(its - nars.pair.measured["acc1"], 2)
    text: dict[str, object] = {
        "other": METHODS[other.method],
        "candidates": count(len(other.trials), "candidate"),
        "epochs": f"{sum(t.epochs for t in other.trials):,}",
        "own": f"{sum(t.epochs for t in nars.trials):,}",
        "acc1": f"{its:.2f}",
        "gap": f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'}" if gap else "the same as",
        "split": SPLITS.get(split, split),
    }
    if split in counts:
        text["images"] = f"{counts[split]:,}"
        text["error"] = f"{(its * (100 - its) / counts[split]) ** 0.5:.1f}"
    return fill(words.VERSUS, text, {"noise": fill(words.NOISE if counts else words.NOISE_UNKNOWN, text, {})})
