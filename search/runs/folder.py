"""The folder of a search: what is in it, and how it is read.

```
config.yaml         every setting
inputs/             the files that it names, see inputs.py
environment.json    versions and devices that the numbers depend on
ledger.jsonl        every trial
clock.json          when the search was at work, and on what; for those who watch it
pair.yaml           the answer; weights.pt its weights, final/ its final training
result.json         what each method found, for other programs
diagnostics.json    how it was found: predictions, finalists, evolution; for the report
confirm/            final trainings with more seeds, if asked for; confirmed.json has what they say
baseline/           ledger, pair and weights of random search, if it ran
earlier/            answers that an extension has replaced, see earlier.py
budgets/            pairs for other budgets, if asked for
report.html plots/  the report, renewed while the search runs
```
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.schema import load_json, load_yaml
from fbnetv3.search.nars.batches import foreign_trial
from fbnetv3.search.nars.config import SearchConfig, read_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Finalist, Proposal
from fbnetv3.search.nars.sources import Source, read_source
from fbnetv3.search.predictor.diagnostics import Statistic
from fbnetv3.search.runs.inputs import check_costs, check_inputs, check_paths, check_settings, locate_inputs
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.search.trial import Trial, ledger_config, read_ledger
from fbnetv3.training.data.spec import absolute_spec

CONFIG, ENVIRONMENT, RESULT, DIAGNOSTICS = "config.yaml", "environment.json", "result.json", "diagnostics.json"
WEIGHTS, FINAL = "weights.pt", "final"
METHODS = {"nars": "NARS", "random": "random search"}  # names in words
FOLDERS = {"nars": Path(), "random": Path("baseline")}  # of each method, in the folder of the search
LEDGER, PAIR = "ledger.jsonl", "pair.yaml"


@dataclass(frozen=True)
class SearchResult:
    """What one search method answered with, and what the final training measured.

    Attributes:
        method: nars or random.
        curve: validation accuracy after every epoch of the final training; empty without one.
        flops, params: costs of the pair in the convention of the search's constraint.
    """

    method: str
    pair: Pair
    proposal: Proposal
    trials: tuple[Trial, ...]
    curve: tuple[float, ...]
    flops: int
    params: int


@dataclass(frozen=True)
class SearchFolder:
    """The folder of a search that was begun. Open it with `load_search`."""

    path: Path
    config: SearchConfig

    @cached_property
    def context(self) -> Context:
        """The space, the base recipe and the data of the search.

        Raises:
            InputError: a file that the configuration names is not there.
        """
        check_paths(self.config, self.path)
        return Context.of(self.config)

    def context_with(self, data: str | None, device: str | None = None) -> Context:
        """Return the same with its images at another place, and its trainings on another device, unless these are None."""
        if data is None and device is None:
            return self.context
        place = self.context.data if data is None else absolute_spec(data)
        return dataclasses.replace(self.context, data=place, device=device or self.context.device)

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.context.space

    @property
    def methods(self) -> list[str]:
        """Methods that have a ledger."""
        return [method for method in FOLDERS if self.ledger(method).is_file()]

    def ledger(self, method: str = "nars") -> Path:
        """Return the path of a method's ledger."""
        return self.path / FOLDERS[method] / LEDGER

    def pair(self, method: str = "nars") -> Path:
        """Return the path of a method's pair file."""
        return self.path / FOLDERS[method] / PAIR

    def trials(self, method: str = "nars") -> list[Trial]:
        """Return the trials of a method, in the order in which they were written.

        Raises:
            InputError: no ledger, a damaged one, a trial of another search, or a space that gives the trials other costs
                than it did.
        """
        path = self.ledger(method)
        trials = read_ledger(path, foreign_trial(self.config, self.space, method), self.config.fingerprint)
        check_costs(self.context, trials, path)
        return trials

    def results(self) -> list[SearchResult]:
        """Return what each method found, NARS first.

        Raises:
            InputError: the search has not ended, or a file is damaged.
        """
        found = self._read(RESULT, ("nars",))
        details = self._read(DIAGNOSTICS)
        try:
            return [
                SearchResult(
                    method,
                    load_pair(self.pair(method)),
                    _proposal(details[method]),
                    tuple(self.trials(method)),
                    tuple(details[method]["curve"]),
                    row["flops"],
                    row["params"],
                )
                for method, row in found.items()
            ]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.path / DIAGNOSTICS} is damaged ({error!r}); write it again with "
                f"`fbnetv3 search resume {self.path}`"
            ) from None

    def _read(self, name: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
        if not (self.path / name).is_file():
            raise InputError(
                f"the search in {self.path} has not ended: {name} is missing; continue it with "
                f"`fbnetv3 search resume {self.path}`"
            )
        found: dict[str, Any] = load_json(self.path / name, "result of a search", keys, nan=True)
        return found


def load_search(folder: str | Path) -> SearchFolder:
    """Open the folder of a search, whether it has ended or not.

    Raises:
        InputError: no search there, a configuration that is damaged, or settings or files of the search that were changed.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"no search in {folder}: {CONFIG} is missing; give the folder of a search, or start one with "
            f"`fbnetv3 search run --out {folder}`"
        )
    config = written_config(folder)
    check_inputs(config, folder)
    for place in FOLDERS.values():
        if (began_with := ledger_config(folder / place / LEDGER)) is not None:
            check_settings(config, folder, began_with)
    return SearchFolder(folder, locate_inputs(config, folder))


def open_source(name: str) -> Source:
    """Return the trainings of an earlier search that has ended, from its folder or from a copy in another search's folder.

    Raises:
        InputError: no search there, one that has not ended, or a damaged file.
    """
    if Path(name).is_file():
        return read_source(Path(name))
    search = load_search(name)
    [nars] = [result for result in search.results() if result.method == "nars"]
    return search.context.source(nars.trials, nars.proposal.epochs)


def written_config(folder: Path) -> SearchConfig:
    """Return the configuration as the file in a folder has it: paths of the search's own files are below the folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    # Versions that did not write the acquisition had this one alone.
    data = {"acquisition": "mean"} | load_yaml(folder / CONFIG, "search configuration")
    return read_config(data, str(folder / CONFIG))


def write_results(results: list[SearchResult], folder: Path) -> None:
    """Write `result.json` and `diagnostics.json`."""
    rows = {
        r.method: {
            **accuracies(r.pair) | ({"val_acc1": r.curve[-1]} if r.curve else {}),
            "flops": r.flops,
            "params": r.params,
            "trainings": len(r.trials),
            "training_seconds": round(sum(t.seconds for t in r.trials), 1),
            "predicted": r.proposal.predicted,
            "epochs_of_a_trial": r.proposal.epochs,
            "generations": len(r.proposal.history),
            "finalists": [_finalist(finalist, r) for finalist in r.proposal.finalists],
        }
        for r in results
    }
    # Numbers of Python's floats survive JSON exactly, so the report from files equals one from memory.
    details = {r.method: dataclasses.asdict(r.proposal) | {"curve": r.curve} for r in results}
    write_atomically(folder / DIAGNOSTICS, json.dumps(details) + "\n")
    write_atomically(folder / RESULT, json.dumps(rows, indent=1) + "\n")


def accuracies(pair: Pair) -> dict[str, Any]:
    """Return the accuracy of a pair's final training under the name of its split, and the epochs of that training.

    The entry of the other split is None. Data without test images is measured on `val`, which the search has used.
    """
    measured = pair.measured
    named = {f"{split}_acc1": measured["acc1"] if measured.get("split") == split else None for split in ("test", "val")}
    return named | {"epochs": measured.get("epochs")}


def _finalist(finalist: Finalist, result: SearchResult) -> dict[str, Any]:
    # A finalist trains for all epochs of the recipe, as the first batch does.
    final = max(t.epochs for t in result.trials)
    return dataclasses.asdict(finalist) | {"split": "val", "epochs": result.proposal.epochs, "final_epochs": final}


def _proposal(data: dict[str, Any]) -> Proposal:
    """Return what `dataclasses.asdict` made of a proposal, after it went through JSON."""
    finalists = tuple(
        Finalist(tuple(row["candidate"]), tuple(row["predicted"]), row["measured"], row["final"])
        for row in data["finalists"]
    )
    proxy = tuple(Statistic(row["name"], tuple(row["exact"]), tuple(row["predicted"])) for row in data["proxy"])
    predicted = None if data["predicted"] is None else (data["predicted"][0], data["predicted"][1])
    return Proposal(tuple(data["candidate"]), predicted, data["epochs"], tuple(data["history"]), finalists, proxy)
