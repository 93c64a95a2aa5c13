"""Where trials run: in this process, in a pool of processes, or on a Ray cluster; what is found is the same everywhere.

An executor yields every job's outcome as it comes. A training that raises, or whose process dies each time it is tried, is
an outcome with status `failed`; only an `InputError`, a mistake of configuration, ends the search.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from fbnetv3.errors import InputError
from fbnetv3.search.execution.images import Evaluator, Outcome
from fbnetv3.search.space.space import Candidate
from fbnetv3.training.loop import cpu_threads

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Candidate, int, int]  # what an evaluator takes: candidate, epochs, seed
RETRIES = 2  # of a job whose process died
DIED = "its process died every time it was tried; perhaps for want of memory"
ERROR_LENGTH = 500  # characters of an error that are kept


class Executor(Protocol):
    """Runs jobs while its `with` block lasts; leaving it by an exception (Ctrl-C too) stops what still runs, at once."""

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """Yield every job's outcome as it is done."""
        ...


def evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    """The outcome of one job on one thread, `failed` if the evaluator raises anything but an `InputError`."""
    start = time.monotonic()
    try:
        with cpu_threads(1):
            return evaluator(*job)
    except InputError:
        raise
    except Exception as error:
        logger.warning("a training failed", exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:ERROR_LENGTH]
        return Outcome((), "failed", round(time.monotonic() - start, 3), text)


def pickled(evaluator: Evaluator, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """The evaluator for other processes, see `evaluate_pickled`.

    Raises:
        InputError: it cannot be sent.
    """
    try:
        return dumps(evaluator)
    except Exception as error:  # whatever its own state raises
        raise InputError(
            f"the evaluator {evaluator!r} cannot be sent to another process: {error}; define it at the top of a module, "
            "or use one worker"
        ) from None


def evaluate_pickled(evaluator: bytes, job: Job) -> Outcome:
    """`evaluate` in another process."""
    return evaluate(_unpickled(evaluator), job)


@functools.lru_cache(maxsize=1)
def _unpickled(evaluator: bytes) -> Evaluator:
    try:
        return pickle.loads(evaluator)  # type: ignore[no-any-return]
    except Exception as error:
        raise InputError(
            f"another process cannot read the evaluator: {type(error).__name__}: {error}; define it at the top of a module "
            "that can be imported there"
        ) from None


class InProcess:
    """Runs jobs here, in their order."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """See `Executor`."""
        for key, job in jobs.items():
            yield key, evaluate(self.evaluator, job)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to stop."""


class ProcessPool:
    """Runs jobs on `workers` processes of this machine.

    Every process is a pool of its own, so that a death is charged to the job that ran in it and to no other. A thread a
    process keeps it busy, however slowly the outcomes are taken.

    Args:
        retries: how often a job is tried again whose process died.

    Raises:
        InputError: the evaluator cannot be pickled.
    """

    def __init__(self, evaluator: Evaluator, workers: int, retries: int = RETRIES) -> None:
        self.retries = retries
        self._evaluator = pickled(evaluator)
        self._strangers = multiprocessing.active_children()
        self._pools: list[ProcessPoolExecutor | None] = [None] * workers
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(workers):
            self._idle.put(place)
        self._threads = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()  # nothing starts once the pool has stopped
        self._stopped = False

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """See `Executor`.

        Raises:
            InputError: from an evaluator, or processes that cannot start.
        """
        futures = {self._threads.submit(self._outcome, job): key for key, job in jobs.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _outcome(self, job: Job) -> Outcome:
        place, start = self._idle.get(), time.monotonic()
        try:
            for _ in range(self.retries + 1):
                self._start(place)
                try:
                    return self._call(place, evaluate_pickled, self._evaluator, job)  # type: ignore[no-any-return]
                except BrokenProcessPool:
                    logger.warning("a worker process died; its training is tried %d times", self.retries + 1)
            return Outcome((), "failed", round(time.monotonic() - start, 3), DIED)
        finally:
            self._idle.put(place)

    def _start(self, place: int) -> None:
        """Make sure that the process of a place lives: one that cannot even start must not count as failed trainings."""
        for _ in range(self.retries + 1):
            if self._pools[place] is None:
                # spawn: a fork of a process that has run torch's threads may hang.
                context = multiprocessing.get_context("spawn")
                self._pools[place] = ProcessPoolExecutor(1, context, _start_worker)
            with contextlib.suppress(BrokenProcessPool):
                self._call(place, os.getpid)
                return
        raise InputError(
            "worker processes cannot start: a script that searches with several workers does so under "
            'if __name__ == "__main__"; if it does, memory may be short: use fewer workers'
        )

    def _call(self, place: int, function: Callable[..., Any], *args: Any) -> Any:
        """Call in the process of a place.

        Raises:
            BrokenProcessPool: the process died; the place is empty then.
            CancelledError: the pool has stopped.
        """
        try:
            with self._lock:
                pool = self._pools[place]
                if self._stopped or pool is None:
                    raise CancelledError
                future = pool.submit(function, *args)
            return future.result()
        except BrokenProcessPool:
            self._pools[place] = None
            raise

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Stop the workers: after their jobs, or at once."""
        with self._lock:
            self._stopped = True
        if kind is not None:
            for process in multiprocessing.active_children():
                if process not in self._strangers:
                    process.terminate()
        self._threads.shutdown(cancel_futures=True)
        for pool in self._pools:
            if pool is not None:
                pool.shutdown()


def _start_worker() -> None:
    """Leave Ctrl-C to the driver, and die with it: a killed driver must not leave workers behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def available_workers() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Execution:
    """Where the trials of a search run and what each may use; nothing of it changes what is found.

    Raises:
        InputError: an executor that does not exist, or settings of Ray without it.
    """

    kind: str = "processes"  # of this machine | ray
    address: str | None = None  # of the Ray cluster: HOST:PORT, auto (the one of this machine), local (a new one)
    cpus: float | None = None  # that a trial holds on its node; by default one a process
    gpus: float | None = None  # by default none

    def __post_init__(self) -> None:
        if self.kind not in ("processes", "ray"):
            raise InputError(f"the executor is {self.kind!r}; allowed: processes, ray")
        if self.kind != "ray" and (self.address, self.cpus, self.gpus) != (None, None, None):
            raise InputError("an address, CPUs and GPUs of a trial are settings of Ray; give --executor ray too")

    def executor(
        self, evaluator: Evaluator, workers: int | None = None, processes: int = 1
    ) -> contextlib.AbstractContextManager[Executor]:
        """The executor.

        Args:
            workers: trials at a time; by default as many as this machine has processors for. On Ray, how many are handed to
                the cluster at a time.
            processes: that train one candidate together, see `TorchrunEvaluator`.
        """
        if processes > 1:
            from fbnetv3.search.execution.torchrun import TorchrunEvaluator

            evaluator = TorchrunEvaluator(evaluator, processes)
        if self.kind == "ray":
            from fbnetv3.search.execution.ray_cluster import IN_FLIGHT, RayExecutor

            return RayExecutor(
                evaluator,
                self.address or "auto",
                cpus=processes if self.cpus is None else self.cpus,
                gpus=self.gpus or 0,
                in_flight=workers or IN_FLIGHT,
            )
        workers = workers or max(1, available_workers() // processes)
        return InProcess(evaluator) if workers == 1 else ProcessPool(evaluator, workers)


THIS_MACHINE = Execution()
