"""The table of all trials on the page. A script in the page sorts it, filters it and opens trials; without, it is complete."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from fbnetv3.pages.markup import fill
from fbnetv3.pages.plots import count
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.report import template as words
from fbnetv3.search.report.analysis import accuracies, measured
from fbnetv3.search.report.findings import value_words
from fbnetv3.search.report.plots import short_name
from fbnetv3.search.report.ranking import Belief
from fbnetv3.search.runs.folder import METHODS, SearchResult
from fbnetv3.search.runs.status import Z90
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.trial import Place, Trial


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted by; an empty text comes last."""

    text: str
    value: object = ""


@cache
def script() -> str:
    """Return the script of the page."""
    return (Path(__file__).parent / "trials.js").read_text()


def script_hash() -> str:
    """Return the hash by which the page allows this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


def trials_section(
    config: SearchConfig, space: SearchSpace, results: Sequence[SearchResult], beliefs: Mapping[Place, Belief]
) -> str:
    """Return the part of the page, the most accurate trial first.

    Args:
        beliefs: what the predictor believes of the candidates of NARS, by the places of their trials; may be empty.
    """
    epochs, several = results[0].proposal.epochs, len(results) > 1
    rows = [(result, trial) for result in results for trial in result.trials]
    rows.sort(key=lambda row: -_accuracy(row[1], epochs, -1.0))
    shown = []
    for result, trial in rows:
        belief = beliefs.get(trial.place) if result.method == "nars" else None
        cells = _cells(config, result, trial, epochs, belief, several, bool(beliefs))
        values = _values(space, result, trial, epochs, several)
        chosen = tuple(trial.candidate) == result.proposal.candidate
        shown.append(_trial(cells, values, _details(space, trial), chosen))
    head = ["trial", *(["method"] if several else []), "round", "accuracy", "predicted before"]
    head += [*(["believed"] if beliefs else []), "FLOPs", "parameters", "epochs", "seconds", "ended"]
    text = {"epochs": count(epochs, "epoch"), "believed": words.BELIEVED if beliefs else ""}
    markup = {"head": "".join(f"<th>{cell}</th>" for cell in head), "rows": "\n".join(shown)}
    return fill(words.TRIALS, text, markup)


def _trial(cells: Sequence[Cell], values: Mapping[str, Any], details: Mapping[str, str], chosen: bool) -> str:
    kind = ' class="marked"' if chosen else ""
    row = "".join(f'<td data-v="{html.escape(str(c.value))}">{html.escape(c.text)}</td>' for c in cells)
    inside = "".join(f"<p><b>{name}</b> {html.escape(text)}</p>" for name, text in details.items() if text)
    more = f'<tr class="more"><td colspan="{len(cells)}"><details><summary>values</summary>{inside}</details></td></tr>'
    return f'<tbody{kind} data-values="{html.escape(json.dumps(values))}"><tr>{row}</tr>{more}</tbody>'


def _cells(
    config: SearchConfig,
    result: SearchResult,
    trial: Trial,
    epochs: int,
    belief: Belief | None,
    several: bool,
    believed: bool,
) -> list[Cell]:
    accuracy = _accuracy(trial, epochs, None)
    name = f"{trial.round}.{trial.index}"
    cells = [Cell(name, 10_000 * trial.round + trial.index)]
    cells += [Cell(METHODS[result.method], METHODS[result.method])] if several else []
    cells.append(Cell(short_name(config, trial.round) if result.method == "nars" else "-", trial.round))
    cells.append(Cell("-") if accuracy is None else Cell(f"{accuracy:.2f}%", accuracy))
    mean, std = trial.predicted or (None, 0.0)
    cells.append(
        Cell("-") if mean is None else Cell(f"{mean:.1f} ({mean - Z90 * std:.1f} to {mean + Z90 * std:.1f})", mean)
    )
    if believed:
        cells.append(
            Cell("-")
            if belief is None
            else Cell(f"{belief.mean:.1f} ({belief.low:.1f} to {belief.high:.1f})", belief.mean)
        )
    cells += [Cell(f"{n:,}", n) for n in (trial.flops, trial.params, trial.trained)]
    return [*cells, Cell(f"{trial.seconds:,.0f}", trial.seconds), Cell(_ended(trial), _ended(trial))]


def _values(space: SearchSpace, result: SearchResult, trial: Trial, epochs: int, several: bool) -> dict[str, Any]:
    """Return what the filter compares, by name."""
    known: dict[str, Any] = {"method": result.method} if several else {}
    known |= {"trial": f"{trial.round}.{trial.index}", "round": trial.round, "accuracy": _accuracy(trial, epochs, None)}
    known |= {"flops": trial.flops, "params": trial.params, "epochs": trial.trained}
    known |= {"seconds": trial.seconds, "seed": trial.seed, "ended": _ended(trial)}
    return known | space.values(trial.candidate)


def _details(space: SearchSpace, trial: Trial) -> dict[str, str]:
    """Return what an opened trial shows: results before the values that it was made with."""
    values = space.values(trial.candidate)
    recipe, arch = (
        ", ".join(f"{c.name} {value_words(values[c.name])}" for c in space.coordinates if c.arch == kind)
        for kind in (False, True)
    )
    curve = ", ".join(f"{value:.2f}" for value in trial.acc1)
    return {"Accuracy after every epoch": curve, "Error": trial.error, "Recipe": recipe, "Architecture": arch}


def _accuracy(trial: Trial, epochs: int, otherwise: Any) -> Any:
    return accuracies([trial], epochs)[0] if measured([trial]) else otherwise


def _ended(trial: Trial) -> str:
    return "stopped early" if trial.stopped else trial.status
