"""Where trials run: in this process, or in a pool of processes; results are the same, only their order is not."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import threading
from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from fbnetv3.errors import InputError
from fbnetv3.search.evaluator import Evaluator, Outcome
from fbnetv3.search.space import Candidate

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Candidate, int, int]  # what an evaluator takes: candidate, epochs, seed


def available_workers() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Executor:
    """Runs jobs with one evaluator on `workers` processes while its `with` block lasts; with one worker, here.

    The evaluator must be picklable when `workers` is above 1.
    """

    def __init__(self, evaluator: Evaluator, workers: int = 1) -> None:
        self.evaluator = evaluator
        self._strangers = multiprocessing.active_children()
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        if workers > 1:
            # spawn: a fork of a process that has run torch's threads may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker)

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """Yield every job's outcome as it is done."""
        if self._pool is None:
            for key, job in jobs.items():
                yield key, self.evaluator(*job)
            return
        futures = {self._pool.submit(self.evaluator, *job): key for key, job in jobs.items()}
        for future in concurrent.futures.as_completed(futures):
            try:
                yield futures[future], future.result()
            except concurrent.futures.process.BrokenProcessPool:
                raise InputError(
                    "a worker process died, perhaps for want of memory; resume with fewer workers"
                ) from None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop the workers, at once when an exception (Ctrl-C too) ends the search."""
        if self._pool is not None:
            for process in multiprocessing.active_children() if kind is not None else ():
                if process not in self._strangers:
                    process.terminate()
            self._pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the driver, and die with it: a killed driver must not leave workers behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
