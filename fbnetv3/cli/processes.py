"""Several processes with one command line: those of torchrun, or the tasks of SLURM's `srun`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fbnetv3.errors import InputError
from fbnetv3.training.slurm import torchrun_variables

# The commands whose processes work together. Those of any other would all do the same work, in the same folder.
TOGETHER = (["train"], ["benchmark", "coco"], ["benchmark", "experiment"])


def join_processes(words: Sequence[str]) -> None:
    """Let the tasks of `srun` find each other as the processes of torchrun do.

    Args:
        words: the command line without its first word.

    Raises:
        InputError: there are several processes, and the command works in one.
    """
    os.environ.update(torchrun_variables(os.environ))
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1" or not words or words[0].startswith("-"):
        return
    if not any(list(words[: len(command)]) == command for command in TOGETHER):
        raise InputError(
            f"this is one of {count} processes, and only {', '.join(' '.join(command) for command in TOGETHER)} work in "
            "several. Start one process (srun --ntasks=1, or without srun or torchrun); if each of them has a folder of its "
            "own, set WORLD_SIZE=1"
        )
