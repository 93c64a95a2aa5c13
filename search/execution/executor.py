"""What an executor is, and the simplest one, which runs trials in this process.

An executor yields the outcome of every job when it is there. A training that raises, or whose process dies each time it is
tried, gives an outcome with status `failed`. Only an `InputError`, which is a mistake in the configuration, ends the search.
The result of a search does not depend on its executor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

from fbnetv3.errors import InputError
from fbnetv3.search.trial import Candidate, Evaluator, Outcome
from fbnetv3.training.engine import cpu_threads

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
DIED = "its process died every time it was tried; perhaps the memory was too small"
ERROR_LENGTH = 500  # characters of an error text that are kept


class Job(NamedTuple):
    """What an evaluator is called with."""

    candidate: Candidate
    epochs: int
    seed: int


class Executor(Protocol):
    """Runs jobs while its `with` block lasts. An exception in the block, Ctrl-C included, stops running jobs at once."""

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job, in the order in which the jobs end."""
        ...


def evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    """Return the outcome of one job, which runs on one thread.

    It is `failed` if the evaluator raises anything but an `InputError`, which is passed on.
    """
    start = time.monotonic()
    try:
        # Results are equal to the last bit only for the same number of threads.
        with cpu_threads(1):
            return evaluator(*job)
    except InputError:
        raise
    except Exception as error:
        logger.warning("a training failed", exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:ERROR_LENGTH]
        return Outcome((), "failed", round(time.monotonic() - start, 3), text)


class InProcess:
    """Runs jobs in this process, in their order."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job; see `Executor.run`."""
        for key, job in jobs.items():
            yield key, evaluate(self.evaluator, job)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to stop."""
