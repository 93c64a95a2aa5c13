"""Trials on a Ray cluster: one candidate is one task that holds its CPUs and GPUs on some node.

Every node needs the same fbnetv3 and versions, and data that a search names by path must lie at that path on every node.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import DIED, Job, Key, available_workers, evaluate_pickled, pickled
from fbnetv3.search.execution.images import Evaluator, Outcome

try:
    import ray
    from ray import exceptions
except ImportError:
    raise InputError("the executor ray needs Ray: pip install fbnetv3[ray]") from None

logger = logging.getLogger(__name__)

RETRIES = 10  # a node that is lost counts as a death of its trials, and nodes that may be taken away often are
IN_FLIGHT = 256  # tasks that the cluster knows of: enough to keep it busy and growing, however many candidates wait
# What the cluster did to a task, and not the task to itself. Ray's own retries are off, so that this list decides alone.
DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


class RayExecutor:
    """Runs jobs as tasks of a Ray cluster, which it joins, or of the one that this process has joined already.

    The driver must be a process on a node of the cluster. When it dies its tasks die with it, and the cluster goes on.

    Args:
        address: HOST:PORT, `auto` for the cluster of this machine, `local` to start one here that ends with the search.
        cpus: that a task holds. A training uses one thread whatever this is.
        gpus: that a task holds.
        in_flight: tasks that are handed to the cluster at a time.
        retries: how often a job is tried again whose worker died or whose node was lost.

    Raises:
        InputError: no cluster at the address, or an evaluator that cannot be sent.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        address: str = "auto",
        *,
        cpus: float = 1,
        gpus: float = 0,
        in_flight: int = IN_FLIGHT,
        retries: int = RETRIES,
    ) -> None:
        self.in_flight, self.retries = in_flight, retries
        self._running: Mapping[Any, Any] = {}
        payload = pickled(evaluator, ray.cloudpickle.dumps)  # by value where a node could not import it
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(address, max(available_workers(), 1))
        try:
            _check_room({"CPU": cpus, "GPU": gpus})
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
            # Before a library reads it: the numbers of a trial depend on it.
            environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
            self._task = ray.remote(evaluate_pickled).options(**options, runtime_env=environment)
            self._evaluator = ray.put(payload)
        except BaseException:
            self.__exit__()
            raise

    def run(self, jobs: Mapping[Key, Job]) -> Iterator[tuple[Key, Outcome]]:
        """See `Executor`.

        Raises:
            InputError: from an evaluator, or a node that cannot run trials.
        """
        waiting, running = deque(jobs), dict[Any, Key]()
        self._running = running
        deaths, starts = Counter[Key](), dict[Key, float]()
        while waiting or running:
            while waiting and len(running) < self.in_flight:
                key = waiting.popleft()
                starts.setdefault(key, time.monotonic())
                running[self._task.remote(self._evaluator, jobs[key])] = key
            (done,), _ = ray.wait(list(running))
            key = running.pop(done)
            outcome = _outcome(done)
            if outcome is None:
                deaths[key] += 1
                if deaths[key] <= self.retries:
                    waiting.appendleft(key)
                    continue
                outcome = Outcome((), "failed", round(time.monotonic() - starts[key], 3), DIED)
            yield key, outcome

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs and leave the cluster; a local one ends."""
        for task in self._running:  # here, not when the generator ends: that may be after Ray's shutdown
            ray.cancel(task, force=True)
        if self._joined:
            ray.shutdown()


def _outcome(done: Any) -> Outcome | None:
    """Of a task that has ended; None if its worker or its node died."""
    try:
        return ray.get(done)  # type: ignore[no-any-return]
    except DEATHS as error:
        logger.warning("a trial's worker or node was lost: %s", str(error).splitlines()[0])
        return None
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise InputError(f"a node cannot run trials: {error.cause}; every node needs the same fbnetv3") from error


def _join(address: str, cpus: int) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == "local":
        settings |= {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(address, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}; begin one with `ray start --head`, or give "
            "HOST:PORT, auto or local"
        ) from None


def _check_room(needed: Mapping[str, float]) -> None:
    """Warn of a task that no node has room for now: a cluster that grows may have one later."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
        text = ", ".join(f"{amount:g} {name}" for name, amount in needed.items() if amount)
        logger.warning("no node of the cluster has %s: the search waits until one joins", text)
