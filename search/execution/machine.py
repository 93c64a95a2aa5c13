"""What trainings run on: the device and precision that a search asks for, checked where they are and put into words.

A process that asks a GPU for anything but its number keeps a CUDA context there, with hundreds of megabytes. A search lasts for
days and trains in other processes. So it asks in another process, which ends:

    python -m fbnetv3.search.execution.machine DEVICE PRECISION
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import torch

from fbnetv3.device import Precision, device_words, find_device, find_precision, named_device
from fbnetv3.errors import InputError
from fbnetv3.search.execution.cards import import_path

CLUSTER = "GPUs of the Ray cluster"


@dataclass(frozen=True)
class Machine:
    """What the trainings of a search run on.

    Attributes:
        device: `cpu`, `cuda` (any GPU that the search may use) or `cuda:N`.
        words: the device with the names of its GPUs, such as `cuda (NVIDIA H200)`.
    """

    device: str
    precision: Precision
    words: str


def find_machine(device: str, precision: str, elsewhere: bool = False) -> Machine:
    """Return what trainings run on.

    Args:
        device: as `find_device` takes it.
        precision: as `find_precision` takes it.
        elsewhere: trainings run on other machines: a GPU need not be here, and is checked by the first training.

    Raises:
        InputError: the device cannot be used, or there is no such precision.
    """
    name = named_device(device)
    if elsewhere and name.startswith("cuda") and not torch.cuda.is_available():
        # Nobody here knows the GPUs, and every GPU computes float32.
        return Machine(name, find_precision(precision, "cpu"), f"{name} ({CLUSTER})")
    if name.startswith("cuda") and torch.cuda.is_available():
        return Machine(name, *_ask(name, precision))
    find_device(name)
    return Machine(name, find_precision(precision, name), name)


@functools.lru_cache(maxsize=8)  # a search asks when it is planned and when it starts
def _ask(device: str, precision: str) -> tuple[Precision, str]:
    """Return precision and words from another process."""
    command = [sys.executable, "-m", __name__, device, precision]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": import_path()})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--device {device} cannot be used ({last}); give auto, cpu, or a device of this machine")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["precision"], answer["words"]


def answer(device: str, precision: str) -> dict[str, str]:
    """Return what `_ask` prints: precision and words, or an error. `cuda` is all GPUs that this process sees."""
    try:
        used = find_device(device)
        cards = [used]
        if device == "cuda":
            cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        # One precision for all trials: the one that every GPU computes.
        found = {find_precision(precision, card) for card in cards}
    except InputError as error:
        return {"error": str(error)}
    chosen = found.pop() if len(found) == 1 else "fp32"
    names = dict.fromkeys(device_words(card).partition(" (")[2].removesuffix(")") for card in cards)
    return {"precision": chosen, "words": f"{device} ({', '.join(names)})"}


if __name__ == "__main__":
    print(json.dumps(answer(*sys.argv[1:])))
