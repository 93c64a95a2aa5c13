"""Trials on a Ray cluster: one candidate is one task, which reserves its CPUs and GPUs on some node.

Every node needs fbnetv3 and its dependencies in the same versions. Data that a search names by path must be at that path on
every node.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import DIED, Job, Jobs, Key, in_order
from fbnetv3.search.execution.memory import BrokenDeviceError
from fbnetv3.search.execution.processes import available_workers, evaluate_within
from fbnetv3.search.execution.serialise import evaluate_pickled, pickled
from fbnetv3.search.trial import Evaluator, Outcome

try:
    import ray
    from ray import exceptions
except ImportError:
    raise InputError("the executor ray needs Ray: pip install fbnetv3[ray]") from None

logger = logging.getLogger(__name__)

RETRIES = (
    10  # more than on one machine: the loss of a node counts as a death of its trials, and cheap nodes are lost often
)
IN_FLIGHT = 256  # tasks that the cluster knows of: enough to keep it busy and to make it grow
# Errors that the cluster did to a task, and not the task to itself. Ray's own retries are off: this list alone decides.
DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


class RayExecutor:
    """Runs jobs as tasks of a Ray cluster.

    It joins the cluster at the address, unless this process has joined one already. The driver must be a process on a node of
    the cluster. If the driver dies, its tasks die with it, and the cluster continues.

    Args:
        address: HOST:PORT; `auto` for the cluster of this machine; `local` to start a cluster that ends with the search.
        cpus: CPUs that a task reserves. A training uses one thread in any case.
        gpus: GPUs that a task reserves.
        in_flight: tasks that the cluster is given at a time.
        retries: how often a job is repeated whose worker died or whose node was lost.
        limit: seconds after which a job has failed. It then runs in a process that its worker starts, and can kill.

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
        limit: float | None = None,
    ) -> None:
        self.in_flight, self.retries = in_flight, retries
        self._running: Mapping[Any, Any] = {}
        payload = pickled(evaluator, ray.cloudpickle.dumps)  # cloudpickle sends code too, which a node may not have
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(address, max(available_workers(), 1))
        try:
            _check_room({"CPU": cpus, "GPU": gpus})
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
            # The numbers of a trial depend on the number of threads, which libraries read when they are loaded.
            environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}

            def within(evaluator: bytes, job: Job) -> Outcome:
                return evaluate_pickled(evaluator, job) if limit is None else evaluate_within(limit, evaluator, job)

            # Not through `.options()`: only here does Ray end a worker with its task if the task reserves GPUs. A worker that
            # waits for more work would keep the memory of its GPU.
            self._task = ray.remote(**options, runtime_env=environment)(within)
            self._evaluator = ray.put(payload)
        except BaseException:
            self.__exit__()
            raise

    def run(self, jobs: Jobs[Key], at_once: int | None = None) -> Iterator[tuple[Key, Outcome]]:
        """Yield the key and the outcome of every job; see `Executor.run`.

        Raises:
            InputError: the evaluator raised it, or a node cannot run trials.
        """
        pairs, running = in_order(jobs), dict[Any, tuple[Key, Job]]()
        self._running = running
        deaths, starts = Counter[Key](), dict[Key, float]()
        room = min(at_once or self.in_flight, self.in_flight)
        while True:
            for key, job in itertools.islice(pairs, room - len(running)):
                starts[key] = time.monotonic()
                running[self._task.remote(self._evaluator, job)] = key, job
            if not running:
                return
            (done,), _ = ray.wait(list(running))
            key, job = running.pop(done)
            outcome = _outcome(done)
            if outcome is None:
                deaths[key] += 1
                if deaths[key] <= self.retries:
                    running[self._task.remote(self._evaluator, job)] = key, job
                    continue
                outcome = Outcome((), "failed", round(time.monotonic() - starts[key], 3), DIED)
            yield key, outcome

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop running tasks and leave the cluster. A local cluster ends."""
        # Here and not in the generator, which may end only after Ray's shutdown.
        for task in self._running:
            ray.cancel(task, force=True)
        if self._joined:
            ray.shutdown()


def _outcome(done: Any) -> Outcome | None:
    """Return the outcome of a task that has ended; None if its worker or its node died."""
    try:
        return cast(Outcome, ray.get(done))
    except DEATHS as error:
        logger.warning("a trial's worker or node was lost: %s", str(error).splitlines()[0])
        return None
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        if isinstance(error.cause, BrokenDeviceError):
            # Ray ends a worker after each task that reserves GPUs, so the next task gets a new process.
            return error.cause.outcome
        raise InputError(f"a node cannot run trials: {error.cause}; every node needs the same fbnetv3") from error


def _join(address: str, cpus: int) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == "local":
        settings |= {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(address, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}; start one with `ray start --head`, or give "
            "HOST:PORT, auto or local"
        ) from None


def _check_room(needed: Mapping[str, float]) -> None:
    """Warn if no node has room for a task now. It is no error, because a cluster may grow."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
        text = ", ".join(f"{amount:g} {name}" for name, amount in needed.items() if amount)
        logger.warning("no node of the cluster has %s: the search waits until one joins", text)
