"""Trials on several processes of this machine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fbnetv3.errors import InputError
from fbnetv3.search.execution.cards import Environment, environment
from fbnetv3.search.execution.executor import DIED, LATE, Job, Jobs, Key, in_order
from fbnetv3.search.execution.memory import BrokenDeviceError
from fbnetv3.search.execution.serialise import evaluate_pickled, pickled
from fbnetv3.search.trial import Evaluator, Outcome

logger = logging.getLogger(__name__)

RETRIES = 2  # how often a job is repeated whose process died
GRACE = 5.0  # seconds in which a training ends that is asked to stop
T = TypeVar("T")


class ProcessPool:
    """Runs jobs on `workers` processes of this machine.

    Every process is a pool of its own, so that a death is charged to the job that ran in it and to no other. One thread for
    each process keeps it busy, however slowly the outcomes are taken.

    Args:
        evaluator: the evaluator, or what `pickled` made of it.
        retries: how often a job is repeated whose process died.
        limit: seconds after which the process of a job is killed. The job has failed then, and is not repeated. The first job
            of a process also loads its data in this time.
        places: what is added to the environments of the processes, in turn: the GPUs that each of them sees.

    Raises:
        InputError: the evaluator cannot be pickled.
    """

    def __init__(
        self,
        evaluator: Evaluator | bytes,
        workers: int,
        retries: int = RETRIES,
        limit: float | None = None,
        places: Sequence[Environment] = (),
    ) -> None:
        self.retries, self.limit = retries, limit
        self._places = places or [{}]
        self._evaluator = evaluator if isinstance(evaluator, bytes) else pickled(evaluator)
        # Processes of the caller, which must survive when this pool stops its own.
        self._foreign = multiprocessing.active_children()
        self._pools: list[ProcessPoolExecutor | None] = [None] * workers
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(workers):
            self._idle.put(place)
        self._threads = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()  # nothing starts once the pool has stopped
        self._stopped = False

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job; see `Executor.run`.

        Raises:
            InputError: the evaluator raised it, or processes cannot start.
        """
        pairs, futures = in_order(jobs), dict[Future[Outcome], Key]()
        ended = queue.SimpleQueue[Future[Outcome]]()
        while True:
            # Without a limit, `islice` takes all jobs in the first pass.
            for key, job in itertools.islice(pairs, at_once and at_once - len(futures)):
                future = self._threads.submit(self._outcome, job)
                futures[future] = key
                future.add_done_callback(ended.put)
            if not futures:
                return
            future = ended.get()
            yield futures.pop(future), future.result()

    def _outcome(self, job: Job) -> Outcome:
        place, start = self._idle.get(), time.monotonic()
        try:
            for _ in range(self.retries + 1):
                process = self._start(place)
                try:
                    return self._call(place, evaluate_pickled, self._evaluator, job, limit=self.limit)
                except BrokenProcessPool:
                    logger.warning("a worker process died; its training is tried %d times", self.retries + 1)
                except BrokenDeviceError as error:
                    logger.warning("a training left the GPU unusable in its process; the next one gets a new process")
                    self._give_up(place, process)
                    return error.outcome
                except TimeoutError:
                    logger.warning("a training is stopped: it has taken more than %g seconds", self.limit)
                    self._give_up(place, process)
                    return Outcome((), "failed", round(time.monotonic() - start, 3), LATE.format(self.limit))
            return Outcome((), "failed", round(time.monotonic() - start, 3), DIED)
        finally:
            self._idle.put(place)

    def _start(self, place: int) -> int:
        """Return the id of the process at a place, and make sure that it lives.

        A process that cannot even start must not count as a failed training.
        """
        for _ in range(self.retries + 1):
            if self._pools[place] is None:
                # Spawn, because a fork of a process that has run torch's threads may hang.
                context = multiprocessing.get_context("spawn")
                self._pools[place] = ProcessPoolExecutor(1, context, start_worker)
            with contextlib.suppress(BrokenProcessPool):
                return self._call(place, os.getpid)
        raise InputError(
            "worker processes cannot start: a script that searches with several workers or a time limit does so under "
            'if __name__ == "__main__"; if it does, the memory may be too small: use fewer workers'
        )

    def _give_up(self, place: int, process: int) -> None:
        """Kill the process at a place, which cannot be used any more, and what it has started."""
        pool, self._pools[place] = self._pools[place], None
        _kill([process, *_descendants(process)])
        if pool is not None:
            pool.shutdown()

    def _call(self, place: int, function: Callable[..., T], *args: object, limit: float | None = None) -> T:
        """Call a function in the process at a place.

        Raises:
            BrokenProcessPool: the process died; the place is empty then.
            CancelledError: the pool has stopped.
            TimeoutError: the function has not returned after `limit` seconds.
        """
        try:
            # The first call to a place starts its process, which inherits this environment.
            with self._lock, environment(self._places[place % len(self._places)]):
                pool = self._pools[place]
                if self._stopped or pool is None:
                    raise CancelledError
                future = pool.submit(function, *args)
            return future.result(limit)
        except BrokenProcessPool:
            self._pools[place] = None
            raise

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Stop the workers when their jobs are done, or at once after an exception."""
        with self._lock:
            self._stopped = True
        if kind is not None:
            _stop([process for process in multiprocessing.active_children() if process not in self._foreign])
        self._threads.shutdown(cancel_futures=True)
        for pool in self._pools:
            if pool is not None:
                pool.shutdown()


def start_worker() -> None:
    """Let the driver alone handle Ctrl-C, and die with the driver: a killed driver must not leave workers behind.

    It is called in a new process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Stop processes and what they have started. Those that do not react within a few seconds are killed."""
    started = [one for process in processes if process.pid for one in _descendants(process.pid)]
    for process in processes:
        process.terminate()
    end = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()  # does nothing to a process that has ended
    _kill(started)


def _kill(processes: Sequence[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            # A process that hangs need not react to any other signal.
            os.kill(process, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those that these have started; none where there is no /proc."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            children = [int(child) for child in path.read_text().split()]
            found += children + [one for child in children for one in _descendants(child)]
    return found


def evaluate_within(limit: float, evaluator: bytes, job: Job) -> Outcome:
    """Return the outcome of one job, which runs in another process that is killed after `limit` seconds."""
    return dict(_pool(evaluator, limit).run({0: job}))[0]


# The process is kept for the next job, because it has loaded the data.
@functools.lru_cache(maxsize=1)
def _pool(evaluator: bytes, limit: float) -> ProcessPool:
    return ProcessPool(evaluator, 1, limit=limit)


def available_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
