"""The files of an evaluation in a folder: its numbers, its plots and its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.evaluation.measures import Evaluation
from fbnetv3.evaluation.page import evaluation_page
from fbnetv3.evaluation.plots import plot_confusion, plot_reliability
from fbnetv3.evaluation.speed import Speed
from fbnetv3.files import refuse_to_overwrite, write_atomically
from fbnetv3.schema import dump_json

METRICS, REPORT, PLOTS = "metrics.json", "report.html", ("confusion", "reliability")


def refuse_files(folder: Path, overwrite: bool) -> None:
    """Raise `InputError` if one of the files exists, unless they shall be replaced."""
    for name in (METRICS, REPORT, *(f"{plot}.png" for plot in PLOTS)):
        refuse_to_overwrite(folder / name, overwrite)


def as_data(found: Evaluation, speed: Speed | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that was measured as plain data: the facts first, then the numbers, then the speed."""
    return {**facts, **found.to_dict(), "speed": None if speed is None else speed.to_dict()}


def write_evaluation(
    folder: str | Path,
    found: Evaluation,
    speed: Speed | None,
    facts: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """Write metrics.json, confusion.png, reliability.png and report.html, and return the path of the page.

    Args:
        facts: what was measured on what: at least `network`, `weights`, `data` and `split`.

    Raises:
        InputError: one of the files exists, or the folder cannot be written.
    """
    folder = Path(folder)
    refuse_files(folder, overwrite)
    plots = {plot.name: plot for plot in (plot_confusion(found), plot_reliability(found))}
    for name, plot in plots.items():
        write_atomically(folder / f"{name}.png", plot.png or b"")
    write_atomically(folder / METRICS, dump_json(as_data(found, speed, facts)) + "\n")
    page = evaluation_page(found, speed, plots, facts)
    write_atomically(folder / REPORT, page.encode(errors="backslashreplace"))  # names of files need not be UTF-8
    return folder / REPORT
