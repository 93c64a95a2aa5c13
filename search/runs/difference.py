"""What two trainings, or the answers of two searches, differ in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fbnetv3.errors import InputError, quote
from fbnetv3.search.runs.folder import SearchFolder
from fbnetv3.search.trial import Trial

ANSWER = "answer"  # the chosen pair of a search, beside ROUND.INDEX of a trial
Kind = Literal["result", "architecture", "recipe"]


@dataclass(frozen=True)
class Side:
    """One of the two: what is known of a training, and the values that it was made with.

    Attributes:
        name: what it is called, such as `trial 3.1`.
        results: accuracy, costs and the like, by name.
        arch, recipe: values by name; of a recipe also those that were not searched.
    """

    name: str
    results: Mapping[str, Any]
    arch: Mapping[str, Any]
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """Something that differs; None is a value that a side does not have."""

    kind: Kind
    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides.

    Attributes:
        rows: results first, then the architecture, then the recipe.
        same: number of values of architecture and recipe that are equal.
    """

    a: str
    b: str
    rows: tuple[Row, ...]
    same: int


def compare(a: Side, b: Side) -> Difference:
    """Return what differs. Results are all there, and values of architecture and recipe only where they differ."""
    rows = [Row("result", name, a.results.get(name), b.results.get(name)) for name in _names(a.results, b.results)]
    same = 0
    parts: tuple[tuple[Kind, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("architecture", a.arch, b.arch),
        ("recipe", a.recipe, b.recipe),
    )
    for kind, left, right in parts:
        for name in _names(left, right):
            if name in left and name in right and left[name] == right[name]:
                same += 1
            else:
                rows.append(Row(kind, name, left.get(name), right.get(name)))
    return Difference(a.name, b.name, tuple(rows), same)


def side_of(search: SearchFolder, name: str) -> Side:
    """Return a trial of NARS, named ROUND.INDEX, or the answer of a search, named `answer`.

    Raises:
        InputError: no such trial, or a search that has no answer yet.
    """
    if name == ANSWER:
        return answer_of(search)
    if not re.fullmatch(r"\d{1,9}\.\d{1,9}", name):
        raise InputError(
            f"{quote(name)} is no trial; give ROUND.INDEX, such as 2.0, {ANSWER}, or the folder of a search"
        )
    place, trials = tuple(map(int, name.split("."))), search.trials()
    for trial in trials:
        if trial.place == place:
            return _trial(search, trial)
    known = ", ".join(
        f"{number} (0 to {max(t.index for t in trials if t.round == number)})"
        for number in sorted({t.round for t in trials})
    )
    raise InputError(f"{search.ledger()} has no trial {name}; rounds and their indices: {known or 'none yet'}")


def answer_of(search: SearchFolder, name: str = "answer") -> Side:
    """Return the answer of NARS.

    Args:
        name: what it is called.

    Raises:
        InputError: the search has not ended.
    """
    nars, *_ = search.results()
    measured = nars.pair.measured
    results = {"predicted": nars.pair.predicted["mean"], "epochs of the prediction": nars.proposal.epochs}
    if measured:
        results |= {f"{measured['split']} accuracy": measured["acc1"], "epochs": measured["epochs"]}
    costs = {"FLOPs": nars.flops, "parameters": nars.params}
    return _side(search, nars.proposal.candidate, name, results | costs)


def _trial(search: SearchFolder, trial: Trial) -> Side:
    results: dict[str, Any] = {"status": "stopped early" if trial.stopped else trial.status}
    if trial.predicted is not None:
        results["predicted"] = trial.predicted[0]
    if trial.acc1:
        results["val accuracy"] = trial.acc1[-1]
    results |= {"epochs": trial.trained, "seconds": trial.seconds, "seed": trial.seed}
    results |= {"FLOPs": trial.flops, "parameters": trial.params}
    return _side(search, trial.candidate, f"trial {trial.round}.{trial.index}", results)


def _side(search: SearchFolder, row: Sequence[int], name: str, results: Mapping[str, Any]) -> Side:
    """Return a side with the recipe as candidates are trained: that of a final training has more epochs, which results say."""
    candidate = search.space.candidate(row, search.context.base, "candidate")
    arch = {c.name: candidate.values[c.name] for c in search.space.coordinates if c.arch}
    return Side(name, results, arch, candidate.recipe.to_dict())


def _names(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*a, *b]))
