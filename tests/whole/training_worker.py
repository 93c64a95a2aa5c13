"""A small training as a process of its own, for tests that kill it or start several: `python worker.py OUT JSON`."""

import dataclasses
import json
import os
import sys
import time

import torch

from fbnetv3 import build_model
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.memory import Split
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.distributed import process_group
from fbnetv3.training.engine import Engine, cpu_threads, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from tests.training.test_loop import ARCH, DATA, RECIPE


def freeze_norms(model):
    """Batch norms in eval mode, whatever the loop says."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module
            module.training = False
    return model


def main(out, options):
    recipe = Recipe.from_dict(RECIPE.to_dict() | options.get("recipe", {}))
    data = dataclasses.replace(DATA, val=Split(fashion_mnist().val.images[:101], fashion_mnist().val.labels[:101]))
    device = f"cuda:{os.environ.get('RANK', 0)}" if options.get("device") == "cuda" else "cpu"
    with cpu_threads(1), process_group(torch.device(device)) as process:
        model = seeded(lambda: build_model(ARCH, 10, 1, recipe.dropout, recipe.stochastic_depth), 5)
        if options.get("freeze"):
            freeze_norms(model)

        def progress(done, total, text):
            if process.rank == 0:
                print(f"step {done}/{total}", flush=True)
            time.sleep(options.get("pause", 0))

        trained = fit(
            model,
            recipe,
            data,
            seed=7,
            out=out,
            resume=options.get("resume", False),
            progress=progress,
            engine=Engine(device, **options.get("engine", {})),
        )
        accuracy = measure(trained.model, data, "val", process, torch.device(device))
        if process.rank == 0:
            metrics = [dataclasses.asdict(m) for m in trained.metrics]
            torch.save(
                {"state": trained.model.cpu().state_dict(), "metrics": metrics, "acc1": accuracy.acc1}, f"{out}.done"
            )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
