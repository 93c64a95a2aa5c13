"""A small training as a process of its own, for tests that kill it or start several: `python training_worker.py OUT JSON`.

`start` and `finish` run it from a test.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import torch

from fbnetv3.training.accuracy import measure
from fbnetv3.training.distributed import process_group
from fbnetv3.training.engine import Engine, cpu_threads
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from tests.places import ROOT
from tests.training.examples import DATA, FULL, RECIPE, first, freeze_norms, new_model

ODD = dataclasses.replace(DATA, val=first(FULL.val, 101))  # an odd number of images cannot be divided evenly


def start(out, options, processes=1):
    """Start the worker in as many processes as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__)), str(out), json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if processes > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=PIPE, stderr=PIPE, text=True)
        for rank in range(processes)
    ]


def finish(workers, code=0):
    """Wait for the workers, which must end with this code."""
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [code] * len(workers), [text[-1500:] for _, text in outputs]
    return outputs


def result(out):
    """What a worker that was not stopped left behind."""
    return torch.load(f"{out}.done", weights_only=True)


def main(out, options):
    recipe = Recipe.from_dict(RECIPE.to_dict() | options.get("recipe", {}))
    device = f"cuda:{os.environ.get('RANK', 0)}" if options.get("device") == "cuda" else "cpu"
    with cpu_threads(1), process_group(torch.device(device)) as process:
        model = new_model(recipe)
        if options.get("freeze"):
            freeze_norms(model)

        def progress(done, total, text):
            if process.rank == 0:
                print(f"step {done}/{total}", flush=True)
            time.sleep(options.get("pause", 0))

        trained = fit(
            model,
            recipe,
            ODD,
            seed=7,
            out=out,
            resume=options.get("resume", False),
            progress=progress,
            engine=Engine(device, **options.get("engine", {})),
        )
        accuracy = measure(trained.model, ODD, "val", process, torch.device(device))
        if process.rank == 0:
            metrics = [dataclasses.asdict(m) for m in trained.metrics]
            torch.save(
                {"state": trained.model.cpu().state_dict(), "metrics": metrics, "acc1": accuracy.acc1}, f"{out}.done"
            )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
