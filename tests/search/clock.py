"""An executor whose trainings take a simulated time: several run at a time, and nothing sleeps."""

import itertools

from fbnetv3.search.execution.executor import evaluate, in_order


class Clock:
    """Runs up to `workers` trainings at a time, as many seconds as `seconds(job)` says; the first to end is yielded first.

    `now` is the time at which the last outcome was yielded.
    """

    def __init__(self, evaluator, workers, seconds):
        self.evaluator, self.workers, self.seconds = evaluator, workers, seconds
        self.now = 0.0

    def run(self, jobs, at_once=None):
        """Yield the key and the outcome of every job; see `Executor.run`."""
        pairs, free, running = (
            in_order(jobs),
            [self.now] * self.workers,
            [],
        )  # `free`: when every worker has nothing to do
        for number in itertools.count():
            for key, job in itertools.islice(pairs, at_once and at_once - len(running)):
                free.sort()
                # A job that is taken later cannot have started before.
                free[0] = max(free[0], self.now) + self.seconds(job)
                running.append((free[0], number, key, job))
            if not running:
                return
            first = min(running, key=lambda one: one[:2])
            running.remove(first)
            self.now, _, key, job = first
            yield key, evaluate(self.evaluator, job)
