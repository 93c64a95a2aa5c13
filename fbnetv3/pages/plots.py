"""The style of all plots. A plot without an image says in its caption why there is none."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

# Of a palette that colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
SIZE = (5.2, 3.5)  # inches: as wide as the page shows it, so that letters stay legible on a phone


@dataclass(frozen=True)
class Plot:
    """A PNG with its title and caption.

    Attributes:
        name: name of its file, without the suffix.
        png: None where there is nothing to show; then the caption says why.
    """

    name: str
    title: str
    caption: str
    png: bytes | None


def plot_axes(x: str, y: str) -> Any:
    """Return empty axes in the style of all plots, with labels for x and y."""
    # Imported here, so that a search starts without it. Not through pyplot, which keeps global state.
    from matplotlib.figure import Figure

    axes = Figure(figsize=SIZE, dpi=180, layout="constrained").add_subplot(xlabel=x, ylabel=y)
    return style(axes)


def plot_row(panels: int, y: str = "") -> list[Any]:
    """Return axes side by side. With a label `y`, they share the y axis."""
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


def finish(name: str, title: str, caption: str, axes: Any, *, integer: bool = False, below_axes: bool = False) -> Plot:
    """Save a plot.

    Args:
        integer: put whole numbers on the x axis.
        below_axes: put the legend below the axes.
    """
    handles, labels = axes.get_legend_handles_labels()
    if below_axes:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    elif labels:
        axes.legend(fontsize=8.5)
    if integer:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return Plot(name, title, caption, png_of(axes.figure))


def png_of(figure: Any) -> bytes:
    """Return a figure as a PNG. Equal figures give equal files, because matplotlib's version is left out."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def count(n: int, noun: str) -> str:
    """Return a number of things in words, such as `1 epoch` or `3 epochs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
