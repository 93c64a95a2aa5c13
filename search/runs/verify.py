"""Recomputes what a search's folder contains, and compares: is it what its configuration and its trainings lead to?

fbnetv3 search verify DIR --retrain 3

Every proposal follows from the configuration and from the accuracies before it. So the search is made again with the
recorded accuracies instead of trainings. The pair file, the accuracy of its weights and some trainings are made again too.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fbnetv3.device import find_device
from fbnetv3.errors import InputError
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.progress import Report
from fbnetv3.schema import load_yaml
from fbnetv3.search.execution.executor import Job, Jobs, Key, checked, evaluate, in_order
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.context import Context, image_evaluator
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.runs.devices import CPU, recorded
from fbnetv3.search.runs.final import environment, pair_of_proposal
from fbnetv3.search.runs.folder import ENVIRONMENT, LEDGER, WEIGHTS, SearchFolder, load_search
from fbnetv3.search.runs.inputs import check_costs
from fbnetv3.search.runs.run import SEARCHES
from fbnetv3.search.trial import Ledger, Outcome, Planned, Trial, comparable, evaluated
from fbnetv3.training.accuracy import measure
from fbnetv3.training.engine import cpu_threads

# How much the accuracy of the same weights may differ where it need not be equal: percentage points, or images of a small set.
# Images whose two best classes are nearly equal may change. The numbers are a choice.
POINTS, IMAGES = 1.0, 2


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed, or could not be."""

    what: str
    status: Literal["same", "differs", "not checked"]
    note: str = ""


class _MissingError(InputError):
    """The search wants a training that its ledger does not have: it had not ended."""


@dataclass(frozen=True)
class Recorded:
    """An executor that trains nothing: jobs end as the trials with their seeds did, and in the same order. Seeds are unique."""

    trials: Sequence[Trial]

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the recorded outcome of every job; see `Executor.run`.

        Raises:
            InputError: no other job is recorded.
        """
        pairs, running = in_order(jobs), dict[int, tuple[Key, Job]]()  # by seed
        while True:
            running |= {
                job.seed: (key, job) for key, job in itertools.islice(pairs, at_once and at_once - len(running))
            }
            if not running:
                return
            trial = next((trial for trial in self.trials if trial.seed in running), None)
            if trial is None:
                raise _MissingError(f"no trial of the ledger has one of the seeds {list(running)}")
            key, job = running.pop(trial.seed)
            outcome = Outcome(tuple(trial.acc1), trial.status, trial.seconds, trial.error)
            # A failure, if nothing ends the training where it was stopped.
            yield key, checked(outcome, job.epochs, job.stop) if trial.stopped else outcome


def verify(
    folder: str | Path, retrain: int, progress: Report, data: str | None = None, device: str | None = None
) -> list[Check]:
    """Recompute what a search's folder contains. Nothing in the folder changes.

    Args:
        retrain: number of trainings of each method to make again, spread over its ledger. On the same kind of machine with
            the same versions, trainings on the CPU are equal to the last bit.
        data: where the images of the search are now, if they were moved.
        device: where trainings are made again; by default the device that the search began with.

    Raises:
        InputError: no search there, a damaged file, or no such device.
    """
    search = load_search(folder)
    context = search.context_with(data, device and find_device(device))
    checks = [_versions(search.path)]
    with cpu_threads(1):
        for method in search.methods:
            checks += _verify_method(context, search, method, retrain, progress)
    return checks


def replay(
    context: Context, method: str, executor: Recorded, progress: Report
) -> tuple[list[Trial], list[Planned], Proposal | None]:
    """Return the trials that a search proposes if its trainings end as recorded, what it trains then, and its answer.

    The answer is None if a training is not recorded. Only an asynchronous search says what it trains.
    """
    with (
        tempfile.TemporaryDirectory() as temporary,
        Ledger.open(Path(temporary) / LEDGER, context.config.fingerprint) as ledger,
    ):
        try:
            runner = BatchRunner(context, ledger, executor, progress, executor.trials)
            proposal: Proposal | None = SEARCHES[method](context, runner)
        except _MissingError:
            proposal = None
        return ledger.trials, ledger.pending, proposal


def _versions(folder: Path) -> Check:
    if not (folder / ENVIRONMENT).is_file():
        return Check("versions", "not checked", f"{ENVIRONMENT} is missing")
    before, now = load_yaml(folder / ENVIRONMENT, "record of versions"), environment()
    changed = [f"{key} was {before.get(key)}, is {value}" for key, value in now.items() if before.get(key) != value]
    return Check("versions", "differs" if changed else "same", "; ".join(changed))


def _verify_method(
    context: Context, search: SearchFolder, method: str, retrain: int, progress: Report
) -> Iterator[Check]:
    # Opened as a search does, so that a running search is not verified half-way.
    with Ledger.open(search.ledger(method), search.config.fingerprint) as ledger:
        trials, pending = ledger.trials, ledger.pending
    if not context.config.contents:  # with copies, the space is the one that the search began with
        try:
            check_costs(context, [*trials, *pending], search.ledger(method))
        except InputError as error:  # with another space, nothing else could be compared
            yield Check(f"{method}: costs of the ledger", "differs", str(error))
            return
    again, training, proposal = replay(context, method, Recorded(trials), progress)
    yield _compare(method, [*trials, *pending], [*again, *training])
    path = search.pair(method)
    # On a GPU, numbers that are computed again need not be equal to the last bit.
    exact = all(device == CPU for device in (context.device, *recorded(search.path, search.config)))
    if proposal is None:
        more = f", and {len(pending)} trainings had not ended" if pending else ""
        note = f"the search has not ended; it has made {len(trials)} trials{more}"
        yield Check(f"{method}: answer", "not checked", note)
    elif path.is_file():
        pair = load_pair(path)
        expected = pair_of_proposal(context, method, proposal, again, pair.measured)
        yield _compare_pairs(f"{method}: {path.relative_to(search.path)}", pair, expected)
        weights = path.parent / WEIGHTS
        if pair.measured and weights.is_file():
            yield _measure_again(f"{method}: accuracy of the pair's weights", context, pair, weights, exact)
        elif pair.measured and context.own_final:
            yield Check(f"{method}: accuracy of the pair", "not checked", "the evaluator left no weights to measure")
    # A trial that the search does not propose was reported above. It need not even be a candidate of the space.
    proposed = {t.place: t.candidate for t in again}
    mine = [t for t in trials if t.candidate == proposed.get(t.place)]
    yield from _train_again(context, method, mine, retrain, progress, exact)


def _compare(method: str, recorded: Sequence[Planned], again: Sequence[Planned]) -> Check:
    """Name the first trial that is not what the search proposes."""
    what = f"{method}: {len(recorded)} proposals of the ledger"
    ours, theirs = ({(row["round"], row["index"]): row for row in comparable(t)} for t in (again, recorded))
    for place, row in theirs.items():
        where = f"trial {place[1]} of round {place[0]}"
        if place not in ours:
            return Check(what, "differs", f"{where} does not follow from the trials before it")
        for key, value in row.items():
            if ours[place][key] != value:
                return Check(what, "differs", f"{where}: {key} is {value}, not {ours[place][key]}")
    return Check(what, "same")


def _compare_pairs(what: str, pair: Pair, expected: Pair) -> Check:
    """Compare everything but the place of the images, and versions, which are a check of their own."""
    for field in dataclasses.fields(Pair):
        found, wanted = getattr(pair, field.name), getattr(expected, field.name)
        if field.name == "provenance":
            left_out = {"data", "device", "precision", *environment()}
            found, wanted = ({k: v for k, v in d.items() if k not in left_out} for d in (found, wanted))
        if found != wanted:
            return Check(what, "differs", f"{field.name} is not what the search answers with")
    return Check(what, "same")


def _measure_again(what: str, context: Context, pair: Pair, path: Path, exact: bool) -> Check:
    file, stated = read_weight_file(path), pair.measured["acc1"]
    if file.arch != pair.arch:
        return Check(what, "differs", f"{path} has the weights of another network")
    try:
        device = torch.device(find_device(context.device))
        data = image_evaluator(context).images(pair.arch.resolution)
    except InputError as error:
        return Check(what, "not checked", str(error))
    split = pair.measured["split"]
    found = measure(file.build().to(device), data, split, device=device).acc1
    close = abs(found - stated) <= max(POINTS, 100 * IMAGES / data.count(split))
    same = found == stated if exact else close
    return Check(what, "same" if same else "differs", f"{found:.2f}%, stated {stated:.2f}%")


def _train_again(
    context: Context, method: str, trials: Sequence[Trial], count: int, progress: Report, exact: bool
) -> Iterator[Check]:
    if not count:
        return
    if context.config.processes > 1:
        yield Check(f"{method}: trainings", "not checked", f"each was made by {context.config.processes} processes")
        return
    try:
        find_device(context.device)
        evaluator = context.evaluator()
    except InputError as error:
        # The GPU or the data is not on this machine, or a custom evaluator cannot be imported.
        yield Check(f"{method}: trainings", "not checked", str(error))
        return
    made = evaluated(trials)
    positions = np.linspace(0, len(made) - 1, min(count, len(made))).round().astype(int).tolist()
    for n, position in enumerate(positions):
        trial = made[position]
        progress(n, len(positions), f"training trial {trial.index} of round {trial.round} again")
        candidate = context.space.candidate(trial.candidate, context.base, "candidate")
        outcome = evaluate(evaluator, Job(candidate, trial.trained, trial.seed))
        same = (list(outcome.acc1), outcome.status) == (trial.acc1, trial.status)
        note = "" if same else f"{_last(outcome.acc1)}, recorded {_last(trial.acc1)}"
        what = f"{method}: training of trial {trial.index} of round {trial.round}"
        if same or exact:
            yield Check(what, "same" if same else "differs", note)
        else:
            yield Check(
                what, "not checked", f"{note}; trainings on a GPU, or on two devices, are not equal to the last bit"
            )


def _last(acc1: Sequence[float]) -> str:
    return f"{acc1[-1]:.2f}%" if acc1 else "diverged"
