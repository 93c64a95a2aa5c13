"""The plots of an evaluation: which classes are taken for which, and whether confidences are right."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fbnetv3.evaluation.measures import Evaluation
from fbnetv3.pages.plots import BLUE, GREY, Plot, count, png_of, style

MOST_CLASSES = 30  # of a confusion matrix whose names can be read
NUMBERED = 12  # so many classes leave room for a number in every cell
LONGEST_NAME = 16


def plot_confusion(found: Evaluation) -> Plot:
    """Plot the confusion matrix, of many classes those that are confused most often."""
    from matplotlib.figure import Figure

    shown = _shown(found)
    table = np.array([[found.confusion.get((i, j), 0) for j in shown] for i in shown])
    images = np.array([found.per_class[i].images for i in shown])
    share = 100 * table / np.maximum(images, 1)[:, None]
    figure = Figure(figsize=(5.2, 4.8), dpi=180, layout="constrained")
    axes = figure.add_subplot(xlabel="prediction", ylabel="class")
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    names = [_short(found.classes[i]) for i in shown]
    size = 8 if len(shown) <= NUMBERED else 6
    # Names are no formulas, whatever signs they have.
    text: dict[str, Any] = {"fontsize": size, "parse_math": False}
    axes.set_xticks(range(len(shown)), names, rotation=90 if len(shown) > 3 else 0, **text)
    axes.set_yticks(range(len(shown)), names, **text)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, label="share of the class's images (%)", shrink=0.8)
    if len(shown) <= NUMBERED:
        for (i, j), number in np.ndenumerate(table):
            if number:
                axes.text(
                    j,
                    i,
                    f"{number:,}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if share[i, j] > 50 else "black",
                )
    caption = "A row is a class: the darker a cell, the more of its images got the prediction of the column."
    caption += " Numbers are images." if len(shown) <= NUMBERED else ""
    if len(shown) < len(found.classes):
        caption += f" Of {len(found.classes):,} classes, {len(shown)} are shown: those of the most frequent mistakes."
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks most scripts; the tables have these names too
        return Plot("confusion", "Which classes are taken for which", caption, png_of(figure))


def _shown(found: Evaluation) -> list[int]:
    """Return the classes of the matrix, in the order of the network.

    Of many classes these are the ones with images or predictions, and of many such ones those of the most frequent mistakes.
    """
    if len(found.classes) <= MOST_CLASSES:
        return list(range(len(found.classes)))
    wrong = sorted((-n, pair) for pair, n in found.confusion.items() if pair[0] != pair[1])
    # After these come the other classes with the most images, so that the matrix is full.
    others = sorted({k for pair in found.confusion for k in pair}, key=lambda k: -found.per_class[k].images)
    return sorted(list(dict.fromkeys([k for _, pair in wrong for k in pair] + others))[:MOST_CLASSES])


def plot_reliability(found: Evaluation) -> Plot:
    """Plot the share of right predictions against the confidence, and how many images have which confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), dpi=180, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    places = [50 * (row.low + row.high) for row in found.bins]
    width = 100 / len(found.bins)
    filled = [(x, row) for x, row in zip(places, found.bins, strict=True) if row.images]
    upper.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    bars: dict[str, Any] = {"width": 0.9 * width, "color": BLUE}
    upper.bar([x for x, _ in filled], [row.acc1 or 0.0 for _, row in filled], alpha=0.55, label="right", **bars)
    means = ([row.mean for _, row in filled], [row.acc1 for _, row in filled])
    upper.plot(*means, "o", color="black", markersize=3)
    upper.set(ylabel="right predictions (%)", ylim=(0, 104), xlim=(0, 100))
    upper.legend(fontsize=8.5, loc="upper left")
    lower.bar(places, [row.images for row in found.bins], **bars)
    lower.set(xlabel="confidence: probability of the predicted class (%)", ylabel="images")
    lower.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axes in (upper, lower):
        style(axes)
    caption = (
        f"{count(found.images, 'image')} in {len(found.bins)} bins of equal width. Below the dashed line the network is too "
        "sure of itself, above it not sure enough. A dot is at the mean confidence of its bin. The expected calibration error "
        f"is the mean distance of the dots from the line, weighted by images: {found.ece:.1f} points. Bins of few images are "
        "noisy, and make it larger."
    )
    return Plot("reliability", "Are its probabilities right?", caption, png_of(figure))


def _short(name: str) -> str:
    name = name.encode(errors="backslashreplace").decode()  # of a folder whose name is no UTF-8
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
