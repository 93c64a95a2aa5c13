"""Evaluators that other processes import. The seed of a job says what an evaluator does."""

import os
import signal
import subprocess
import time
from pathlib import Path

import torch

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.trial import Outcome

CALL, RAISE, MISTAKE, DIE, DIE_ONCE, SLEEP, BAD, HANG = range(0, 800, 100)


def answer(seed, threads=1):
    """What a job of two epochs answers with: its seed as a percentage, and the number of its threads."""
    return Outcome((seed / 10, float(threads)), "ok", 0.0)


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
            time.sleep(0.2)  # another job runs at the same time
            os.kill(os.getpid(), signal.SIGKILL)
        if act == SLEEP:
            time.sleep(60)
        if act == HANG:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "60"])
            Path(self.folder, f"{seed}.child.{child.pid}").touch()
            child.wait()
        if act == BAD:
            return [50.0, 60.0]
        time.sleep(0.05)
        return answer(seed, torch.get_num_threads())


class Unreadable:
    """Can be sent to another process, but not be read there."""

    def __setstate__(self, state):
        raise KeyError("lost")

    def __getstate__(self):
        return {"a": 1}

    def __call__(self, candidate, epochs, seed):
        return Outcome((), "ok", 0.0)


def jobs(*seeds):
    """Jobs by name. The evaluators look at the seeds alone."""
    return {f"job {seed}": Job(None, 2, seed) for seed in seeds}


def calls(folder, seed):
    """Number of times that a job was started."""
    return len(list(folder.glob(f"{seed}.*")))


def done(folder, seed):
    """The outcome of a job, which was started once, on one thread."""
    assert calls(folder, seed) == 1
    return answer(seed)


def wait_until_gone(folder):
    """Wait until the processes that ran jobs have ended; return their ids."""
    pids = {int(path.suffix[1:]) for path in folder.iterdir()} - {os.getpid()}
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return pids
        time.sleep(0.05)
    raise AssertionError(f"{pids} outlived their executor")


def alive(pid):
    """Whether a process exists and is more than an entry that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
