"""A training that logs, and kills itself: python -m tests.tracking.killed_training FOLDER LIBRARY [STEP]."""

import os
import signal
import sys
from pathlib import Path

from fbnetv3.tracking import open_trackers
from fbnetv3.training.callbacks import Callback
from fbnetv3.training.engine import Engine, cpu_threads
from fbnetv3.training.loop import fit
from tests.training.examples import DATA, RECIPE, new_model


class Killer(Callback):
    """Ends this process as `kill -9` does, after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, metrics):
        if metrics.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder, library, step="0"):
    folder = Path(folder)
    with cpu_threads(1), open_trackers(library, folder / "logs", {"seed": 7, "recipe": RECIPE.to_dict()}) as trackers:
        settings = {"seed": 7, "out": folder, "resume": True, "engine": Engine(checkpoint_steps=4)}
        fit(new_model(), RECIPE, DATA, **settings, callbacks=[*trackers, Killer(int(step))])


if __name__ == "__main__":
    main(*sys.argv[1:])
