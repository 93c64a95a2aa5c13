"""The search of one method on its ledger: of pairs, or of architecture and recipe one after the other.

A method with `parts` searches one part of the pair while the other part stays. It starts from a pair that somebody would have
who has tried a few: `start_pair`. A second part starts from the answer of the first one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fbnetv3.benchmarks.search.comparison.cases import with_part_of_trainings, with_predictor
from fbnetv3.benchmarks.search.comparison.methods import LEDGER, Method, Search
from fbnetv3.progress import Report
from fbnetv3.search.execution.executor import Executor
from fbnetv3.search.nars.acquisition import first_batch
from fbnetv3.search.nars.batches import Batch, BatchRunner, foreign_trial
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.rivals.search import random_search
from fbnetv3.search.runs.inputs import check_costs
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Booleans
from fbnetv3.search.trial import Ledger, Trial, evaluated, in_rounds


@dataclass(frozen=True)
class Found:
    """What a search left.

    Attributes:
        proposal: its answer.
        trials: its trainings, by (round, index), repeats after round 1; of a second part after those of the first one.
        seconds: processor time of every proposal: before the first batch, before each of the others, and of the answer. It
            differs from run to run, so nothing may depend on it.
        before: trainings that were made before the search, and that the answer may depend on.
    """

    proposal: Proposal
    trials: Sequence[Trial]
    seconds: Sequence[float]
    before: Sequence[Trial] = ()


@dataclass(frozen=True)
class TimedRunner(BatchRunner):
    """A runner that notes the processor time when a batch comes and when it is done."""

    marks: list[float] = field(default_factory=lambda: [time.process_time()])

    def run(self, batch: Batch) -> list[Trial]:
        """Return the trials of a batch; see `BatchRunner.run`."""
        self.marks.append(time.process_time())
        trials = super().run(batch)
        self.marks.append(time.process_time())
        return trials


@dataclass(frozen=True)
class Place:
    """Where a search runs: the folder of its ledger, the executor of its trainings, and who hears of its progress."""

    folder: Path
    executor: Executor
    report: Report

    def inside(self, name: str, done: int) -> Place:
        """Return the folder `name` in this one, for a search that begins after `done` trainings."""

        def later(now: int, total: int, text: str) -> None:
            self.report(done + now, total, text)

        return Place(self.folder / name, self.executor, later)


def find(method: Method, context: Context, place: Place) -> Found:
    """Run the search of a method, or continue it.

    Raises:
        InputError: the folder holds another search, or there is nothing to search in a part.
    """
    if method.parts:
        return _find_parts(method, context, place)
    return _search(context, method.search, method.rounds, place)


def _search(context: Context, search: Search, rounds: str, place: Place) -> Found:
    foreign = foreign_trial(context.config, context.space, rounds)
    with Ledger.open(place.folder / LEDGER, context.config.fingerprint, foreign) as ledger:
        check_costs(context, ledger.trials, ledger.path)
        runner = TimedRunner(context, ledger, place.executor, place.report)
        proposal = search(context, runner)
        marks = [*runner.marks, time.process_time()]
        trials = in_rounds(ledger.trials)
    return Found(proposal, trials, np.diff(marks)[::2].tolist())


def _find_parts(method: Method, context: Context, place: Place) -> Found:
    """Search part by part. The answer is the part's answer that measured best."""
    start = _search(context, start_pair, "nars", place.inside("start", 0))
    row, found = start.proposal.candidate, list[Found]()
    for i, part in enumerate(method.parts):
        done = sum(len(one.trials) for one in found)
        # A part may have fewer candidates than trainings: then the next one gets what is left.
        trainings = (context.config.trainings - done) // (len(method.parts) - i)
        free = np.array([c.arch == (part == "architecture") for c in context.space.coordinates])
        inner, everything = _part_context(context, part, free, row, trainings)
        search, rounds = (random_search, "random") if everything else (method.search, method.rounds)
        found.append(_restored(_search(inner, search, rounds, place.inside(part, done)), row, free))
        row = found[-1].proposal.candidate
    best = max(reversed(found), key=partial(_measured, context))
    return Found(
        best.proposal,
        [trial for one in found for trial in one.trials],
        [sum(one.seconds[0] for one in found), *(s for one in found for s in one.seconds[1:])],
        start.trials,
    )


def start_pair(context: Context, runner: BatchRunner) -> Proposal:
    """Return a pair to start from: a random one of the better half of NARS's first batch, by their measured accuracy."""
    config, pool = context.config, context.pool()
    rows = pool[first_batch(len(pool), config.batches[0], config.seed)]
    trials = evaluated(runner.run(Batch(1, rows, context.base.epochs)))
    better = sorted(trials, key=lambda t: (-context.label(t, t.epochs), t.index))[: max(len(trials) // 2, 1)]
    chosen = better[np.random.default_rng(context.trial_seed(0, 4)).integers(len(better))]
    return Proposal(tuple(chosen.candidate), None, chosen.epochs)


def _part_context(
    context: Context, part: str, free: Booleans, row: Sequence[int], trainings: int
) -> tuple[Context, bool]:
    """Return the context of a search of one part, and whether there are so few candidates that all of them are trained."""
    space = context.space.subspace(row, free)
    known = space.known()
    count = int(ConstraintSet(space, context.constraints.constraints).satisfied(known).sum())
    config = context.config.replace(name=f"{context.config.name}, the {part} of {list(row)}")
    if count <= trainings:
        config = config.replace(first=None, batch=count, rounds=1, finalists=0, pool=count)
        return dataclasses.replace(context, config=config, space=space), True
    config = with_part_of_trainings(config, trainings).replace(pool=min(config.pool, count))
    if part == "recipe":
        config = with_predictor(config, pretrain=False)  # all candidates have the same statistics
    return dataclasses.replace(context, config=config, space=space), False


def _restored(found: Found, row: Sequence[int], free: Booleans) -> Found:
    """Return what a search of a part found, with index rows of the whole space."""

    def whole(candidate: Sequence[int]) -> list[int]:
        rows: list[int] = np.where(free, candidate, row).tolist()
        return rows

    return dataclasses.replace(
        found,
        proposal=dataclasses.replace(found.proposal, candidate=tuple(whole(found.proposal.candidate))),
        trials=[dataclasses.replace(trial, candidate=whole(trial.candidate)) for trial in found.trials],
    )


def _measured(context: Context, found: Found) -> float:
    """Return the accuracy that a search saw its answer have, or predicted where it was not trained."""
    answer = found.proposal.candidate
    seen = [context.label(t, t.epochs) for t in evaluated(found.trials) if tuple(t.candidate) == answer]
    if not seen and found.proposal.predicted:
        return found.proposal.predicted[0]
    return float(np.mean(seen)) if seen else -np.inf
