"""Stage 2 without rounds: when one training ends, the next candidate is proposed and its training starts.

After the first batch, `config.asynchronous` trainings run at a time. A candidate is proposed from the trainings that have
ended, and from the candidates that are training: what their accuracies may be is drawn jointly with those of all others. So
the order in which the ledger's trainings ended decides all proposals, and neither clocks nor the number of workers matter.

A proposal is in the ledger before its training starts. So a search that was killed trains the same candidates again that were
training then, and proposes the same as an uninterrupted one if the trainings end in the same order.

Deviation from Algorithm 1, which proposes in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.nars.batches import Batch, BatchRunner, job_of, other_trial, plan, trial_of
from fbnetv3.search.nars.propose import propose
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.trial import Ledger, Place, Planned, Stop, Trial


def run_asynchronously(
    runner: BatchRunner,
    predictor: AccuracyPredictor,
    first: Sequence[Trial],
    epochs: int,
    fit: Callable[[Sequence[Trial]], object],
    rule: Callable[[Sequence[Trial]], Stop | None],
) -> list[Trial]:
    """Return the trials of stage 2 after its first batch, by place. Those that the ledger lacks are proposed and trained.

    Args:
        first: the trials before them. At least one has not failed.
        epochs: length of the trainings.
        fit: fits the accuracy head of the predictor to trials. It is called once for every training that ends.
        rule: returns what ends trainings early that were proposed from these trials.

    Raises:
        InputError: the ledger belongs to another search, or many trainings in a row failed: as many as run at a time, and as a
            round has.
    """
    context, ledger, at_once = runner.context, runner.ledger, runner.context.config.asynchronous
    places = later_places(context.config.batches)
    ended = recorded_ends(ledger, places, at_once, epochs)
    before, failures = {trial.place for trial in ended}, 0

    def past(number: int) -> list[Trial]:
        """Return the trials that the proposal with this number knows: what had ended when there was room for it."""
        return [*first, *_by_place(ended[: max(0, number + 1 - at_once)])]

    def propose_next() -> None:
        """Propose the candidates that may train now: `at_once` of them in the beginning, then one for each that ended."""
        free = places[len(ledger.planned) : len(ended) + at_once]
        if not free:
            return
        known = past(len(ledger.planned))
        fit(known)
        for round, index in free:
            trained, pending = (_rows(some, context.pool()) for some in (known, ledger.pending))
            rows = propose(context, predictor, trained, pending, 1)
            predicted = np.stack(predictor.predict(encode(context.space, rows), noisy=True))
            ledger.plan(plan(context, Batch(round, rows, epochs, predicted), index)[0])

    def jobs() -> Iterator[tuple[Place, Job]]:
        # The executor takes at most `at_once` more than have ended, and these are planned.
        for number in range(len(places)):
            planned = ledger.planned[number]
            if planned.place not in before:
                yield planned.place, job_of(context, planned, rule(past(number)))

    def report() -> None:
        runner.report(f"stage 2, {at_once} at a time", len(ended), len(places))

    propose_next()
    report()
    for place, outcome in runner.executor.run(jobs(), at_once=at_once):
        ended.append(trial_of(ledger.planned[places.index(place)], outcome))
        runner.record(ended[-1])
        failures = failures + 1 if outcome.status == "failed" else 0
        # A search that is made again ended here too, and was resumed.
        if failures == max(at_once, context.config.batch) and not runner.replayed:
            raise InputError(f"{failures} trainings in a row failed, {outcome.error}; fix the cause, and resume")
        propose_next()
        report()
    return _by_place(ended)


def later_places(batches: Sequence[int]) -> list[Place]:
    """Return the places of the trainings after the first batch, in the order in which they are proposed.

    They are those of a search in rounds, so that both kinds of search have the same trainings in the same tables.
    """
    return [(round, index) for round, size in enumerate(batches[1:], 2) for index in range(size)]


def recorded_ends(ledger: Ledger, places: Sequence[Place], at_once: int, epochs: int) -> list[Trial]:
    """Return the trials of the places that the ledger has, in the order in which they ended.

    Raises:
        InputError: a trial is not of the candidate and the length that was planned, or there are other plans than the trials
            lead to.
    """
    ended = [trial for trial in ledger.trials if trial.place in places]
    planned = {one.place: one for one in ledger.planned}
    for trial in ended:
        one = planned.get(trial.place)
        if one is None or (one.candidate, one.epochs, epochs) != (trial.candidate, trial.epochs, trial.epochs):
            raise other_trial(str(ledger.path), trial)
    # The last training may have ended without another one having been planned.
    least, most = len(ended) + at_once - 1 if ended else 0, len(ended) + at_once
    if list(planned) not in (list(places[:n]) for n in range(least, most + 1)):
        raise InputError(
            f"{ledger.path}: {len(planned)} planned trainings do not follow from {len(ended)} trials of stage 2; the file was "
            "edited: restore it, or start in another folder"
        )
    return ended


def _by_place(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: trial.place)


def _rows(trainings: Sequence[Planned], like: IntMatrix) -> IntMatrix:
    """Return index rows [n, d] with as many columns as the rows of `like`."""
    return np.array([one.candidate for one in trainings], like.dtype).reshape(-1, like.shape[1])
