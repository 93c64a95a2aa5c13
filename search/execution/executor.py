"""What an executor is, and the simplest one, which runs trials in this process.

An executor yields the outcome of every job when it is there. A training that raises, whose process dies each time it is
tried, that exceeds the time limit, or whose evaluator answers with no possible outcome, gives an outcome with status `failed`.
Only an `InputError`, which is a mistake in the configuration, ends the search. The result of a search does not depend on its
executor.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import time
import traceback
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import torch

from fbnetv3.errors import InputError, quote
from fbnetv3.search.execution.memory import BrokenDeviceError, breaks_device, free_memory, out_of_memory
from fbnetv3.search.trial import Candidate, Evaluator, Outcome, Stop, fault_of
from fbnetv3.training.engine import cpu_threads

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
DIED = "its process died every time it was tried; perhaps the memory was too small"
LATE = (
    "it was not ready after the time limit of {:g} seconds; a training that needs longer needs a larger --trial-timeout"
)
ERROR_LENGTH = 500  # characters of an error text that are kept
BROKEN = (
    "a training left the GPU unusable in this process ({}); it is recorded as failed: resume the search without --workers 1, "
    "so that trainings run in processes of their own"
)
SIGNAL_CODES = range(129, 193)  # exit codes of signals, such as 143 of SIGTERM


class Job(NamedTuple):
    """What an evaluator is called with."""

    candidate: Candidate
    epochs: int
    seed: int
    stop: Stop | None = None  # for evaluators that take it; it is sent to other processes


Jobs = Mapping[Key, Job] | Iterable[tuple[Key, Job]]


class Executor(Protocol):
    """Runs jobs while its `with` block lasts. An exception in the block, Ctrl-C included, stops running jobs at once."""

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job, in the order in which the jobs end.

        Args:
            jobs: all jobs by key, or pairs of a key and a job.
            at_once: how many jobs may have been taken from `jobs` whose outcomes have not been yielded. The next job is taken
                when the caller asks for another outcome, in the caller's thread, so it may depend on all outcomes before. By
                default the executor takes all jobs as soon as it can.
        """
        ...


def in_order(jobs: Jobs[Key]) -> Iterator[tuple[Key, Job]]:
    """Return an iterator over keys and jobs."""
    return iter(jobs.items() if isinstance(jobs, Mapping) else jobs)


def evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    """Return the outcome of one job, which runs on one thread. The memory of the GPU that it used is free then.

    It is `failed` if the evaluator raises anything but an `InputError`, which is passed on, or answers with something else
    than an outcome of this job.

    Raises:
        BrokenDeviceError: the job failed in a way that leaves the GPU unusable in this process.
    """
    outcome, broken = _attempt(evaluator, job)
    # Here and not where the exception is handled, because it holds the tensors of the training.
    if outcome.status == "failed" or torch.cuda.is_initialized():
        broken = not free_memory() or broken
    if broken and outcome.status == "failed":
        raise BrokenDeviceError(outcome)
    return outcome


def _attempt(evaluator: Evaluator, job: Job) -> tuple[Outcome, bool]:
    """Return the outcome of a job, and whether the error that ended it breaks the GPU's state."""
    start = time.monotonic()
    try:
        # Results are equal to the last bit only for the same number of threads.
        with cpu_threads(1):
            answer = _call(evaluator, job)
        return checked(answer, job.epochs, job.stop), False
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        # A training that a signal stopped ends with the signal's code. It must end this process too.
        if isinstance(error, SystemExit) and error.code in SIGNAL_CODES:
            raise
        # As text: a handler may keep what it logs, and the exception itself would keep the tensors.
        logger.warning("a training failed\n%s", traceback.format_exc())
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        # What to do comes first: torch's own text is long, and would be cut.
        text = _one_line(f"{advice} ({said})" if (advice := out_of_memory(error)) else said)
        return Outcome((), "failed", round(time.monotonic() - start, 3), text), breaks_device(error)


def _call(evaluator: Evaluator, job: Job) -> Any:
    candidate, epochs, seed, stop = job
    if stop is None or "stop" not in inspect.signature(evaluator).parameters:
        return evaluator(candidate, epochs, seed)
    return cast(Any, evaluator)(candidate, epochs, seed, stop=stop)


def checked(answer: Any, epochs: int, stop: Stop | None = None) -> Outcome:
    """Return what an evaluator answered. If that is no outcome of so many epochs, return a failure that quotes it.

    Fewer epochs are an outcome if `stop` ends the training after them.
    """
    try:
        # Any object with these attributes will do.
        acc1, status, seconds, error = answer.acc1, answer.status, answer.seconds, getattr(answer, "error", "")
        test_acc1 = tuple(getattr(answer, "test_acc1", ()))
    except AttributeError:
        return Outcome((), "failed", 0.0, f"the evaluator answered with {quote(answer)}; it must return an Outcome")
    values = list(itertools.islice(acc1, epochs + 1)) if isinstance(acc1, Iterator) else acc1
    wrong = fault_of(status, values, seconds, epochs, test_acc1=test_acc1)
    if wrong and stop is not None:
        # Fewer epochs are right where the training was to end there.
        shorter = fault_of(status, values, seconds, epochs, stopped=True, test_acc1=test_acc1)
        wrong = "" if not shorter and stop(values) else wrong
    if wrong:
        return Outcome((), "failed", 0.0, _one_line(f"the evaluator answered with {quote(answer)}: {wrong}"))
    curves = [tuple(map(float, curve)) if status == "ok" else () for curve in (values, test_acc1)]
    return Outcome(curves[0], status, float(seconds), _one_line(str(error)), curves[1])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:ERROR_LENGTH]


class InProcess:
    """Runs jobs in this process, in their order."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job; see `Executor.run`. It takes one job at a time in any case.

        Raises:
            InputError: the evaluator raised it, or a job left the GPU unusable in this process. Its outcome was yielded.
        """
        for key, job in in_order(jobs):
            try:
                outcome, broken = evaluate(self.evaluator, job), False
            except BrokenDeviceError as error:
                outcome, broken = error.outcome, True
            yield key, outcome
            if broken:
                raise InputError(BROKEN.format(outcome.error))

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to stop."""
