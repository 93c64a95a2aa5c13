"""The choice of an executor, as data."""

from __future__ import annotations

import contextlib
import math
import threading
from dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.search.execution.cards import VISIBLE, device_of, placements
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
        workers: trials that run at the same time. By default there are `trials_per_gpu` on each GPU if the evaluator trains
            on GPUs, else as many as this machine has processors for. On Ray it is the number of trials that the cluster is
            given at a time.
        address: of the Ray cluster: HOST:PORT, `auto` (the cluster of this machine) or `local` (start a new one).
        cpus: processors that a trial reserves on its node; by default one for each of its processes.
        gpus: GPUs that a trial reserves. By default, a trial on GPUs reserves 1 / `trials_per_gpu`, or one for each of its
            processes; others reserve none.
        trial_timeout: seconds after which a training that has not ended is stopped and recorded as failed; by default there is
            no limit. It runs in a process of its own, which can be killed, so the evaluator must be one that can be pickled.
            The limit is for trainings that hang: one that is nearly too short makes the result depend on the machine.
        trials_per_gpu: trials that share a GPU. An evaluator trains on GPUs if its attribute `device` says so: `cuda` is all
            GPUs that this process may use, `cuda:1` one of them.

    Raises:
        InputError: an executor that does not exist, settings of Ray for another executor, a time limit that is no time, or a
            number of trials that is none.
    """

    kind: str = "processes"
    workers: int | None = None
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    trial_timeout: float | None = None
    trials_per_gpu: int = 1

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
        if type(self.trials_per_gpu) is not int or self.trials_per_gpu < 1:
            raise InputError(f"trials_per_gpu is {self.trials_per_gpu!r}; allowed: whole numbers from 1")

    def start(self, evaluator: Evaluator, processes: int = 1) -> contextlib.AbstractContextManager[Executor]:
        """Return the executor.

        Args:
            processes: processes that train one candidate together, see `TorchrunEvaluator`.

        Raises:
            InputError: the evaluator must be sent to other processes and cannot be, or there is no Ray cluster.
        """
        limit, device = self.trial_timeout, device_of(evaluator)
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
                gpus=self.reserved_gpus(device, processes) if self.gpus is None else self.gpus,
                in_flight=self.workers or IN_FLIGHT,
                limit=limit,
            )
        places, workers = placements(device, processes), self.at_once(device, processes)
        # A training in this process could not be stopped, and one that breaks the state of a GPU would end the search.
        here = workers == 1 and limit is None and not (places and self.workers is None)
        return InProcess(evaluator) if here else ProcessPool(evaluator, workers, limit=limit, places=places)

    def at_once(self, device: str, processes: int = 1) -> int:
        """Return how many trials run at the same time on this machine.

        Args:
            device: of the trials, as `device_of` returns it.
            processes: processes that train one candidate together.

        Raises:
            InputError: there are fewer GPUs than processes.
        """
        return (
            self.workers
            or self.trials_per_gpu * len(placements(device, processes))
            or max(1, available_workers() // processes)
        )

    def words(self, device: str, processes: int = 1) -> str:
        """Return how many trials run at the same time on which GPUs, and how to change that."""
        if self.kind == "ray":
            gpus = self.reserved_gpus(device, processes) if self.gpus is None else self.gpus
            return f"each reserves {gpus:g} GPUs of the Ray cluster (--trials-per-gpu N lets N share one)"
        places = [place.get(VISIBLE, device) for place in placements(device, processes)]
        at_once = self.at_once(device, processes)
        return f"{at_once} at the same time on GPU {' | '.join(places[:at_once])} (--trials-per-gpu N lets N share one)"

    def reserved_gpus(self, device: str, processes: int = 1) -> float:
        """Return how many GPUs of a Ray cluster a trial reserves."""
        if device == "cpu":
            return 0
        if processes > 1 or self.trials_per_gpu == 1:
            return processes
        # Ray counts in 1/10,000 of a GPU: rounded up, seven sevenths would be more than one.
        return math.floor(1e4 / self.trials_per_gpu) / 1e4


THIS_MACHINE = ExecutorSettings()
