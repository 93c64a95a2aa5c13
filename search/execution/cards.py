"""The GPUs of this machine, and which of them each trial gets.

A trial sees only its own GPUs, because its process starts with their names in CUDA_VISIBLE_DEVICES. Nothing here creates a CUDA
context, which would occupy memory of a GPU for as long as the search lasts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping

import torch

from fbnetv3.device import named_device
from fbnetv3.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
Environment = Mapping[str, str]
_changing = threading.Lock()  # the environment of this process is one for all of its threads


def visible_cards() -> list[str]:
    """Return the GPUs that this process may use. Each name, as the value of CUDA_VISIBLE_DEVICES, selects that GPU alone.

    A name is what the user wrote in CUDA_VISIBLE_DEVICES (a number, a UUID, a part of a GPU such as MIG-...), or else a number.
    """
    # `is_available` and `device_count` ask the driver for numbers alone.
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get(VISIBLE)
    if given is None or not count:
        return [str(i) for i in range(count)]
    names = [name.strip() for name in given.split(",")]
    if names[0].startswith("MIG-"):
        # CUDA shows a process the first part alone, and each trial can have another one.
        return [name for name in names if name.startswith("MIG-")]
    return names[:count]


def device_of(evaluator: object) -> str:
    """Return the device on which an evaluator trains: `cpu`, `cuda` or `cuda:N`. One that does not say it trains on the CPU."""
    try:
        name = str(getattr(evaluator, "device", "cpu"))
        device = torch.device(named_device(name))
    except RuntimeError:  # its attribute means something else
        return "cpu"
    return str(device) if device.type == "cuda" else "cpu"


def placements(device: str, processes: int) -> list[Environment]:
    """Return the environments of the trials that run at the same time with one trial on a GPU. On the CPU there are none.

    Args:
        device: `cuda` is all GPUs that this process may use, `cuda:N` one of them.
        processes: processes that train one candidate together. Each of them gets a GPU.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    cards = visible_cards()
    if torch.device(device).type != "cuda" or not cards:
        return []
    if torch.device(device).index is not None:
        if processes > 1:
            raise InputError(f"--device {device} is one GPU for {processes} processes of a trial; give --device cuda")
        return [{}]  # the evaluator names its GPU as this process sees it
    if processes > len(cards):
        raise InputError(
            f"the {processes} processes of a trial need {processes} GPUs, and there are {len(cards)}; give --device cpu, or a "
            "search with fewer processes"
        )
    starts = range(0, len(cards) - processes + 1, processes)
    return [{VISIBLE: ",".join(cards[start : start + processes])} for start in starts]


def import_path() -> str:
    """Return the PYTHONPATH with which another process finds the same modules, such as that of a custom evaluator."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100


@contextlib.contextmanager
def environment(changes: Environment) -> Iterator[None]:
    """Let processes that start in the block inherit other values of some variables.

    A variable must be there before the process imports anything: a module of the user may ask for GPUs when it is imported.
    """
    with _changing:
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
