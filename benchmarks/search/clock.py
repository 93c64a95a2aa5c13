"""An executor whose trainings take a simulated time: several run at a time, and nothing sleeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from fbnetv3.search.execution.executor import Job, Jobs, Key, evaluate, in_order
from fbnetv3.search.trial import Evaluator, Outcome


class Clock:
    """Runs up to `workers` trainings at a time. Those of `run` are yielded in the order in which they end.

    Args:
        seconds: how long a job takes.

    Attributes:
        now: seconds until the last outcome was yielded. What the caller does between two outcomes takes no time.
    """

    def __init__(self, evaluator: Evaluator, workers: int, seconds: Callable[[Job], float]) -> None:
        self.evaluator, self.workers, self.seconds = evaluator, workers, seconds
        self.now = 0.0

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job; see `Executor.run`."""
        pairs, free = in_order(jobs), [self.now] * self.workers  # `free`: when every worker has nothing to do
        running: list[tuple[float, int, Key, Job]] = []
        numbers = itertools.count()  # of two jobs that end together, the one that was taken first is first
        while True:
            for key, job in itertools.islice(pairs, at_once and at_once - len(running)):
                free.sort()
                # A job that is taken now cannot have started before.
                free[0] = max(free[0], self.now) + self.seconds(job)
                running.append((free[0], next(numbers), key, job))
            if not running:
                return
            first = min(running, key=lambda one: one[:2])
            running.remove(first)
            self.now, _, key, job = first
            yield key, evaluate(self.evaluator, job)
