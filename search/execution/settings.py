"""The choice of an executor, as data."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.search.execution.executor import Executor, InProcess
from fbnetv3.search.execution.processes import ProcessPool, available_workers
from fbnetv3.search.execution.serialise import pickled
from fbnetv3.search.execution.torchrun import TorchrunEvaluator
from fbnetv3.search.trial import Evaluator


@dataclass(frozen=True)
class ExecutorSettings:
    """Where the trials of a search run, and what each may use. The result of the search does not depend on it.

    Attributes:
        kind: `processes` of this machine, or `ray`.
        workers: trials that run at the same time; by default as many as this machine has processors for. On Ray it is the
            number of trials that the cluster is given at a time.
        address: of the Ray cluster: HOST:PORT, `auto` (the cluster of this machine) or `local` (start a new one).
        cpus: processors that a trial reserves on its node; by default one for each of its processes.
        gpus: GPUs that a trial reserves; by default none.
        trial_timeout: seconds after which a training that has not ended is stopped and recorded as failed; by default there is
            no limit. It runs in a process of its own, which can be killed, so the evaluator must be one that can be pickled.
            The limit is for trainings that hang: one that is nearly too short makes the result depend on the machine.

    Raises:
        InputError: an executor that does not exist, settings of Ray for another executor, or a time limit that is no time.
    """

    kind: str = "processes"
    workers: int | None = None
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    trial_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("processes", "ray"):
            raise InputError(f"the executor is {self.kind!r}; allowed: processes, ray")
        if self.kind != "ray" and (self.address, self.cpus, self.gpus) != (None, None, None):
            raise InputError("an address, CPUs and GPUs of a trial are settings of Ray; give --executor ray too")
        if self.trial_timeout is not None and not 0 < self.trial_timeout <= threading.TIMEOUT_MAX:
            raise InputError(
                f"the time limit of a trial is {self.trial_timeout} seconds; give a number above 0 and at most "
                f"{threading.TIMEOUT_MAX:.0f}, or none"
            )

    def start(self, evaluator: Evaluator, processes: int = 1) -> contextlib.AbstractContextManager[Executor]:
        """Return the executor.

        Args:
            processes: processes that train one candidate together, see `TorchrunEvaluator`.

        Raises:
            InputError: the evaluator must be sent to other processes and cannot be, or there is no Ray cluster.
        """
        limit = self.trial_timeout
        if processes > 1:
            pickled(evaluator)  # an evaluator that cannot be sent is refused here, and not by its first training
            # It starts processes in any case, and can stop them.
            evaluator, limit = TorchrunEvaluator(evaluator, processes, limit), None
        if self.kind == "ray":
            # Ray is an extra, and its import takes seconds.
            from fbnetv3.search.execution.ray_cluster import IN_FLIGHT, RayExecutor

            return RayExecutor(
                evaluator,
                self.address or "auto",
                cpus=processes if self.cpus is None else self.cpus,
                gpus=self.gpus or 0,
                in_flight=self.workers or IN_FLIGHT,
                limit=limit,
            )
        workers = self.workers or max(1, available_workers() // processes)
        # A training in this process could not be stopped.
        here = workers == 1 and limit is None
        return InProcess(evaluator) if here else ProcessPool(evaluator, workers, limit=limit)


THIS_MACHINE = ExecutorSettings()
