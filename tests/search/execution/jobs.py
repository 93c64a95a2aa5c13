"""Evaluators that worker processes import: what each does is said by the seed of its job."""

import os
import signal
import time
from pathlib import Path

import torch

from fbnetv3 import InputError
from fbnetv3.search.trial import Outcome

CALL, RAISE, MISTAKE, DIE, DIE_ONCE, SLEEP = range(0, 600, 100)


class Acts:
    """Notes each call as a file in `folder`, and acts by the hundreds of the seed."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, candidate, epochs, seed):
        earlier = len(list(Path(self.folder).glob(f"{seed}.*")))
        Path(self.folder, f"{seed}.{earlier}.{os.getpid()}").touch()
        act = seed // 100 * 100
        if act == RAISE:
            raise ValueError(f"no luck with {seed}\nat all")
        if act == MISTAKE:
            raise InputError("no such data; give other data")
        if act == DIE or (act == DIE_ONCE and not earlier):
            time.sleep(0.5)  # a job beside it is running, too
            os.kill(os.getpid(), signal.SIGKILL)
        if act == SLEEP:
            time.sleep(60)
        time.sleep(0.05)
        return Outcome((float(seed), float(torch.get_num_threads())), "ok", 0.0)


class Unreadable:
    """Can be sent and not be read."""

    def __setstate__(self, state):
        raise KeyError("lost")

    def __getstate__(self):
        return {"a": 1}

    def __call__(self, candidate, epochs, seed):
        return Outcome((), "ok", 0.0)
