"""Does a search's folder hold what its configuration and its trainings lead to? All that can be recomputed is.

fbnetv3 search verify DIR --retrain 3

Every proposal follows from the configuration and the accuracies before it, so the search is made again with the recorded
accuracies in the place of trainings; the pair file, the accuracy of its weights and some trainings are made again too.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fbnetv3.errors import InputError
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.schema import load_yaml
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.execution.images import Outcome
from fbnetv3.search.nars.algorithm import Context, Progress, Proposal, image_evaluator, kept
from fbnetv3.search.nars.config import SearchConfig, read_config
from fbnetv3.search.runs.run import CONFIG, ENVIRONMENT, LEDGERS, PAIRS, SEARCHES, environment, find_pair
from fbnetv3.search.space.space import Candidate
from fbnetv3.search.trial import Ledger, Trial, comparable
from fbnetv3.training.accuracy import measure
from fbnetv3.training.loop import cpu_threads
from fbnetv3.weight_file import read_weight_file


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed, or could not be."""

    what: str
    status: Literal["same", "differs", "not checked"]
    note: str = ""


class _MissingError(InputError):
    """The search goes on where its ledger ends."""


@dataclass(frozen=True)
class Recorded:
    """An evaluator that trains nothing: the outcome of the ledger's trial with that seed, which no other trial has."""

    trials: Mapping[int, Trial]

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """What the training gave when it was made."""
        if seed not in self.trials:
            raise _MissingError(f"no trial of the ledger has seed {seed}")
        trial = self.trials[seed]
        return Outcome(tuple(trial.acc1), trial.status, trial.seconds, trial.error)


def verify(folder: str | Path, retrain: int, progress: Progress) -> list[Check]:
    """Recompute what a search's folder holds; nothing in it is changed.

    Args:
        retrain: trainings of each method to make again, spread over its ledger. On the same kind of machine with the same
            versions they are equal to the last bit on CPU.

    Raises:
        InputError: no search there, or a damaged file.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(f"no search in {folder}: {CONFIG} is missing; give the folder of a search")
    config = read_config(load_yaml(folder / CONFIG, "search configuration"), str(folder / CONFIG))
    checks = [_versions(folder)]
    with cpu_threads(1):
        for method, name in LEDGERS.items():
            if (folder / name).is_file():
                checks += _verify_method(config, folder, method, retrain, progress)
    return checks


def _versions(folder: Path) -> Check:
    if not (folder / ENVIRONMENT).is_file():
        return Check("versions", "not checked", f"{ENVIRONMENT} is missing")
    before, now = load_yaml(folder / ENVIRONMENT, "record of versions"), environment()
    changed = [f"{key} was {before.get(key)}, is {value}" for key, value in now.items() if before.get(key) != value]
    return Check("versions", "differs" if changed else "same", "; ".join(changed))


def _verify_method(
    config: SearchConfig, folder: Path, method: str, retrain: int, progress: Progress
) -> Iterator[Check]:
    with Ledger.open(folder / LEDGERS[method], config.fingerprint) as ledger:
        trials = ledger.trials
    context = Context.of(config, Recorded({t.seed: t for t in trials}))
    again, proposal = replay(context, method, progress)
    yield _compare(method, trials, again)
    if proposal is None:
        yield Check(f"{method}: answer", "not checked", f"the search has not ended; {len(trials)} trials are there")
    elif (path := folder / PAIRS[method]).is_file():
        pair = load_pair(path)
        yield _pair(f"{method}: {PAIRS[method]}", pair, find_pair(context, method, proposal, again, pair.measured))
        weights = path.parent / "weights.pt"
        if pair.measured and weights.is_file():
            yield _weights(f"{method}: accuracy of the pair's weights", context, pair, weights)
    yield from _retrained(context, method, trials, retrain, progress)


def replay(context: Context, method: str, progress: Progress) -> tuple[list[Trial], Proposal | None]:
    """The trials that a search proposes if trainings end as the context's evaluator says, and its answer if it gets there."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Ledger.open(Path(temporary) / "ledger.jsonl", context.config.fingerprint) as ledger,
        InProcess(context.evaluator) as executor,
    ):
        try:
            proposal = SEARCHES[method](context, ledger, executor, progress)
        except _MissingError:
            return ledger.trials, None
        return ledger.trials, proposal


def _compare(method: str, recorded: list[Trial], again: list[Trial]) -> Check:
    """The first trial that is not what the search proposes."""
    what = f"{method}: {len(recorded)} proposals of the ledger"
    ours, theirs = ({(row["round"], row["index"]): row for row in comparable(t)} for t in (again, recorded))
    for place, row in theirs.items():
        if place not in ours:
            return Check(what, "differs", f"trial {place[1]} of round {place[0]} is proposed by nothing before it")
        for key, value in row.items():
            if ours[place][key] != value:
                return Check(
                    what, "differs", f"trial {place[1]} of round {place[0]}: {key} is {value}, not {ours[place][key]}"
                )
    return Check(what, "same")


def _pair(what: str, pair: Pair, again: Pair) -> Check:
    """All but versions, which are a check of their own."""
    for field in dataclasses.fields(Pair):
        found, made = getattr(pair, field.name), getattr(again, field.name)
        if field.name == "provenance":
            found, made = ({k: v for k, v in d.items() if k not in environment()} for d in (found, made))
        if found != made:
            return Check(what, "differs", f"{field.name} is not what the search answers with")
    return Check(what, "same")


def _weights(what: str, context: Context, pair: Pair, path: Path) -> Check:
    file, stated = read_weight_file(path), pair.measured["acc1"]
    if file.arch != pair.arch:
        return Check(what, "differs", f"{path} is another network")
    try:
        data = image_evaluator(context.config, context.space).images(pair.arch.resolution)
    except InputError as error:
        return Check(what, "not checked", str(error))
    device = torch.device(context.config.device)
    found = measure(file.build().to(device), data, pair.measured["split"], device=device).acc1
    return Check(what, "same" if found == stated else "differs", f"{found:.2f}%, stated {stated:.2f}%")


def _retrained(context: Context, method: str, trials: list[Trial], count: int, progress: Progress) -> Iterator[Check]:
    if context.config.processes > 1 and count:
        yield Check(f"{method}: trainings", "not checked", f"each was made by {context.config.processes} processes")
        return
    made = kept(trials)
    places = np.linspace(0, len(made) - 1, min(count, len(made))).round().astype(int).tolist()
    for n, place in enumerate(places):
        trial = made[place]
        progress(n, len(places), f"training trial {trial.index} of round {trial.round} again")
        candidate = context.space.candidate(trial.candidate, context.base, "candidate")
        outcome = image_evaluator(context.config, context.space)(candidate, trial.epochs, trial.seed)
        same = (list(outcome.acc1), outcome.status) == (trial.acc1, trial.status)
        note = "" if same else f"{_last(list(outcome.acc1))}, recorded {_last(trial.acc1)}"
        what = f"{method}: training of trial {trial.index} of round {trial.round}"
        yield Check(what, "same" if same else "differs", note)


def _last(acc1: list[float]) -> Any:
    return f"{acc1[-1]:.2f}%" if acc1 else "diverged"
