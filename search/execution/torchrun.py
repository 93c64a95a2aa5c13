"""Several processes that train one candidate together, by torchrun on one node (gloo on CPUs, nccl on GPUs).

A process is started as `python -m fbnetv3.search.execution.torchrun JOB`. It lives as long as its standard input stays
open, so that none outlives the evaluator that started it, however that ends.
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
from fbnetv3.search.execution.executor import evaluate_pickled, pickled
from fbnetv3.search.execution.images import Evaluator, Outcome
from fbnetv3.search.space.space import Candidate
from fbnetv3.training.distributed import processes


@dataclass(frozen=True)
class TorchrunEvaluator:
    """Calls an evaluator in `processes` processes that have a process group, as `fit` expects it, for each candidate.

    The number of processes is part of what is measured: batches are shared out, and batch norm sees a part of them.
    """

    evaluator: Evaluator
    processes: int

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """The outcome that all processes agree on, or that of the first which did not succeed.

        Raises:
            InputError: from the evaluator, or it cannot be pickled.
            RuntimeError: the processes died, or disagree.
        """
        with tempfile.TemporaryDirectory(prefix="fbnetv3-") as name:
            folder = Path(name)
            job = folder / "job"
            job.write_bytes(pickle.dumps((pickled(self.evaluator), (candidate, epochs, seed))))
            code = self._run(job, folder / "log")
            # The first that did not succeed comes first: it takes the others with it.
            files = [path for rank in range(self.processes) if (path := folder / f"outcome.{rank}").exists()]
            files.sort(key=lambda path: path.stat().st_mtime_ns)
            results = [pickle.loads(path.read_bytes()) for path in files]
            for result in results:
                if isinstance(result, InputError):
                    raise result
                if result.status != "ok":
                    return result  # type: ignore[no-any-return]
            if code or len(results) != self.processes:
                lines = (folder / "log").read_text(errors="replace").splitlines()
                raise RuntimeError(f"torchrun ended with code {code}: {' | '.join(lines[-3:])}")
            if len({result.acc1 for result in results}) > 1:
                raise RuntimeError(f"the processes disagree: {[result.acc1 for result in results]}")
            return max(results, key=lambda result: result.seconds)  # type: ignore[no-any-return]

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
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            ) as child,
        ):
            return child.wait()


def main(job: Path) -> None:
    """One of the processes: leave the outcome, or the InputError, beside the job."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    evaluator, arguments = pickle.loads(job.read_bytes())
    rank, local_rank = os.environ["RANK"], int(os.environ["LOCAL_RANK"])
    device = torch.device(getattr(pickle.loads(evaluator), "device", "cpu"))
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    with processes(device):
        result: Outcome | InputError
        try:
            result = evaluate_pickled(evaluator, arguments)
        except InputError as error:
            result = error
        write_atomically(job.with_name(f"outcome.{rank}"), pickle.dumps(result))
        if isinstance(result, InputError) or result.status != "ok":
            os._exit(1)  # the others may wait for this process in a sum; torchrun ends them


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
