"""One process of a small detector's training: `python detector_worker.py OUT JSON`, with the ranks in the environment."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from fbnetv3.detection.detector_weights import load_detector
from fbnetv3.detection.evaluation import evaluate
from fbnetv3.detection.training import train
from fbnetv3.training.distributed import process_group
from fbnetv3.training.engine import cpu_threads
from tests.detection import coco_data


def main(out, options):
    more = options.get("changes", {})
    cfg = coco_data.config(Path(options["data"]), options["pair"], out, **more)

    with cpu_threads(1), process_group(torch.device("cpu")) as process:

        def progress(done, _total, _text):
            if process.rank == 0 and done == options.get("stop"):
                os.kill(os.getpid(), signal.SIGTERM)

        model, _ = load_detector(cfg)
        found = train(cfg, model, resume=options.get("resume", False), progress=progress)
        again = {f"raw/{key}": value for key, value in evaluate(cfg, model).items()}
        torch.save({"found": found, "again": again, "state": model.state_dict()}, f"{out}.{process.rank}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
