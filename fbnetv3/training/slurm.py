"""The tasks of SLURM's `srun` as the processes of one training: the variables that torchrun would have set for them.

    srun --ntasks-per-node=8 fbnetv3 train ...

A task is one of several if `srun` started it so. A command that a batch script or an interactive shell calls itself works
alone, however many tasks the job was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from fbnetv3.errors import InputError, quote

TASKS = "SLURM_STEP_NUM_TASKS"
NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
FIRST_PORT, PORTS = 15_000, 15_000  # below 32768, from where Linux takes ports for other connections
# A host, and others after a comma. Brackets hold numbers and ranges of them, with commas of their own.
_HOSTS = re.compile(r"((?:[^,\[\]\s]|\[\d[\d,-]*\])+)(?:,.*)?")
_NUMBERS = re.compile(r"\[(\d+)[^\]]*\]")


def torchrun_variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the tasks of `srun` find each other, or none for a process that works alone.

    `RANK` in the environment means that torchrun started this process, and `WORLD_SIZE=1` that it works alone. Other variables
    of torchrun that are set, such as `MASTER_PORT`, are kept.

    Args:
        given: the environment of the process.

    Raises:
        InputError: a variable of SLURM is missing or has no meaning, or `WORLD_SIZE` is not the number of tasks.
    """
    # SLURM_NTASKS and SLURM_PROCID would not do: a batch script has them too, those of its whole job.
    if "RANK" in given or given.get("WORLD_SIZE") == "1" or given.get(TASKS, "1") == "1" or has_terminal():
        return {}
    tasks = _number(given, TASKS)
    if given.get("WORLD_SIZE", str(tasks)) != str(tasks):
        raise InputError(
            f"WORLD_SIZE is {quote(given['WORLD_SIZE'])}, but srun started {tasks} tasks; leave WORLD_SIZE out, or set it to 1 "
            "for tasks that work alone"
        )
    found = {
        "RANK": str(_number(given, "SLURM_PROCID")),
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": str(_number(given, "SLURM_LOCALID")),
    }
    # LOCAL_WORLD_SIZE would divide the processors once more: `srun` gives each task its own.
    for key, find in (("MASTER_ADDR", _first_host_of), ("MASTER_PORT", _port)):
        found[key] = given.get(key) or find(given)
    return found


def first_host(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it: of `node[003-005,007],gpu1` it is `node003`.

    Raises:
        InputError: it is no such list.
    """
    found = _HOSTS.fullmatch(nodes)
    if found is None:
        raise InputError(f"{quote(nodes)} is no list of SLURM's nodes; set MASTER_ADDR to the host of the first task")
    return _NUMBERS.sub(r"\1", found[1])


def has_terminal() -> bool:
    """Whether this process runs in an interactive shell. `srun` gives its tasks no terminal, except to the first with --pty."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _first_host_of(given: Mapping[str, str]) -> str:
    """Return the host of the first task."""
    if given.get("SLURM_STEP_NUM_NODES") == "1":
        return "127.0.0.1"  # needs no name of the host, which not every machine can look up
    return first_host(next((given[key] for key in NODE_LISTS if key in given), ""))


def _port(given: Mapping[str, str]) -> str:
    """Return the port of a step of a job. Two steps on one node, of one job or of two, should not meet."""
    step = _number(given, "SLURM_STEP_ID") if "SLURM_STEP_ID" in given else 0
    return str(FIRST_PORT + (10 * _number(given, "SLURM_JOB_ID") + step) % PORTS)


def _number(given: Mapping[str, str], key: str) -> int:
    text = given.get(key, "")
    if not (text.isascii() and text.isdigit()):
        raise InputError(
            f"srun started several tasks, but {key} is {quote(text) if text else 'missing'}; set RANK, WORLD_SIZE, LOCAL_RANK, "
            "MASTER_ADDR and MASTER_PORT, or WORLD_SIZE=1 for tasks that work alone"
        )
    return int(text)
