"""Several processes that train one candidate together: torchrun on one node, with gloo on CPUs and nccl on GPUs.

Each is started as `python -m fbnetv3.search.execution.torchrun JOB`. It lives as long as its standard input stays open, so
that no process outlives the evaluator that started it, however that one ends.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.search.execution.cards import device_of, import_path
from fbnetv3.search.execution.executor import LATE, Job
from fbnetv3.search.execution.memory import BrokenDeviceError
from fbnetv3.search.execution.serialise import evaluate_pickled, pickled
from fbnetv3.search.trial import Candidate, Evaluator, Outcome, Stop
from fbnetv3.training.distributed import process_group

GRACE = 60.0  # seconds that torchrun has for stopping its processes


@dataclass(frozen=True)
class TorchrunEvaluator:
    """Calls an evaluator in `processes` processes that form a process group, as `fit` expects it.

    The accuracy depends on the number of processes: each handles a part of every batch, and batch norm sees only that part.

    Attributes:
        limit: seconds after which the processes are stopped; none by default.
    """

    evaluator: Evaluator
    processes: int
    limit: float | None = None

    def __call__(self, candidate: Candidate, epochs: int, seed: int, *, stop: Stop | None = None) -> Outcome:
        """Return the outcome on which all processes agree, or the outcome of the first process that did not succeed.

        Raises:
            InputError: the evaluator raised it, or the evaluator cannot be pickled.
            RuntimeError: the processes died, or their accuracies differ.
            TimeoutError: they have not ended after `limit` seconds.
        """
        with tempfile.TemporaryDirectory(prefix="fbnetv3-") as name:
            folder = Path(name)
            job = folder / "job"
            job.write_bytes(pickle.dumps((pickled(self.evaluator), Job(candidate, epochs, seed, stop))))
            code = self._run(job, folder / "log")
            # In the order in which they ended: the first failure is the cause of the others.
            files = [path for rank in range(self.processes) if (path := folder / f"outcome.{rank}").exists()]
            files.sort(key=lambda path: path.stat().st_mtime_ns)
            results: list[Outcome | InputError] = [pickle.loads(path.read_bytes()) for path in files]
            outcomes = []
            for result in results:
                if isinstance(result, InputError):
                    raise result
                if result.status != "ok":
                    return result
                outcomes.append(result)
            if code or len(outcomes) != self.processes:
                lines = (folder / "log").read_text(errors="replace").splitlines()
                raise RuntimeError(f"torchrun ended with code {code}: {' | '.join(lines[-3:])}")
            if len({outcome.acc1 for outcome in outcomes}) > 1:
                raise RuntimeError(f"the processes disagree: {[outcome.acc1 for outcome in outcomes]}")
            return max(outcomes, key=lambda outcome: outcome.seconds)

    def _run(self, job: Path, log: Path) -> int:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={self.processes}",
            "-m",
            __name__,
            str(job),
        ]
        environment = os.environ | {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1"}
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            ) as child,
        ):
            try:
                return child.wait(self.limit)
            except subprocess.TimeoutExpired:
                _stop(child)
                raise TimeoutError(LATE.format(self.limit)) from None


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Stop torchrun. It ends its processes first, and kills those that do not react within half a minute."""
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()


def main(job: Path) -> None:
    """Run one of the processes: write the outcome, or the InputError, next to the job."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    evaluator, arguments = pickle.loads(job.read_bytes())
    rank, local_rank = os.environ["RANK"], int(os.environ["LOCAL_RANK"])
    device = torch.device(device_of(pickle.loads(evaluator)))
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    with process_group(device):
        result: Outcome | InputError
        try:
            result = evaluate_pickled(evaluator, arguments)
        except InputError as error:
            result = error
        except BrokenDeviceError as error:
            result = error.outcome  # this process ends in any case
        write_atomically(job.with_name(f"outcome.{rank}"), pickle.dumps(result))
        if isinstance(result, InputError) or result.status != "ok":
            # The others may wait for this process in a collective operation; torchrun ends them when this one dies.
            os._exit(1)


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
