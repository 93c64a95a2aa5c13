"""A small detector's training as a process of its own, one of several: `python coco_worker.py OUT JSON`."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from fbnetv3.detection.evaluation import evaluate
from fbnetv3.detection.training import prepare, train
from fbnetv3.training.distributed import processes
from fbnetv3.training.loop import cpu_threads
from tests.detection import coco_data


def main(out, options):
    more = options.get("changes", {})
    cfg = coco_data.config(Path(options["data"]), options["pair"], out, **more)

    with cpu_threads(1), processes(torch.device("cpu")) as share:

        def progress(done, _total, _text):
            if share.rank == 0 and done == options.get("stop"):
                os.kill(os.getpid(), signal.SIGTERM)

        model, _ = prepare(cfg)
        found = train(cfg, model, resume=options.get("resume", False), progress=progress)
        again = {f"raw/{key}": value for key, value in evaluate(cfg, model).items()}
        torch.save({"found": found, "again": again, "state": model.state_dict()}, f"{out}.{share.rank}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
