"""Checkpoints of a detector's training: all that resuming needs, complete or not there at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from fbnetv3.errors import InputError, quote
from fbnetv3.files import load_torch, save_torch, write_atomically
from fbnetv3.networks.weight_file import check_finite
from fbnetv3.schema import parse_json, read_text

LAST = "last_checkpoint"  # detectron2's name for the file that names the newest checkpoint
# Config keys that may change when a training is resumed, because the weights do not depend on them.
_FREE_KEYS = (
    "OUTPUT_DIR",
    "DATALOADER.NUM_WORKERS",
    "DATASETS.TEST",
    "TEST",
    "SOLVER.CHECKPOINT_PERIOD",
    "VIS_PERIOD",
    "MODEL.DEVICE",  # each of several processes has another device
)


class Checkpointer:
    """Writes and reads the checkpoints of one training, in detectron2's files `model_STEP.pth` and `last_checkpoint`.

    Args:
        parts: optimizer, scheduler and so on: everything with a state dict that the training continues with.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, classes: tuple[str, ...], parts: Mapping[str, Any]) -> None:
        self.out, self.model, self.classes, self.parts = Path(cfg.OUTPUT_DIR), model, classes, parts
        self.identity, self.device = _identity(cfg), torch.device(cfg.MODEL.DEVICE)

    def write(self, step: int) -> None:
        """Save the training after `step` steps, then delete the previous checkpoint. Only the first process writes.

        Raises:
            InputError: the checkpoint cannot be written; the previous one is still there.
        """
        if not comm.is_main_process():
            return  # all processes have the same weights
        previous = self._last()
        path = self.out / f"model_{step:07d}.pth"
        content = {key: part.state_dict() for key, part in self.parts.items()}
        content |= {"model": self.model.state_dict(), "step": step, "classes": list(self.classes)}
        save_torch(path, content | {"identity": json.dumps(self.identity)})
        # In this order a crash at any moment leaves LAST naming a complete checkpoint.
        write_atomically(self.out / LAST, path.name)
        if previous is not None and previous != path:
            previous.unlink(missing_ok=True)

    def resume(self, allowed: bool) -> int:
        """Load the last checkpoint, if there is one, and return the number of steps that it was trained for.

        Raises:
            InputError: there is one although resuming is not `allowed`, or it is damaged or of a training with another
                config.
        """
        path = self._last()
        if path is None:
            return 0
        if not allowed:
            refuse_second(self.out)
        content = load_torch(path, "checkpoint", ("model", "step", "identity", *self.parts))
        damaged = f"{path} is no checkpoint, or is damaged"
        saved = parse_json(content["identity"], damaged)
        if not isinstance(saved, dict) or type(content["step"]) is not int or content["step"] < 1:
            raise InputError(f"{damaged}: it names no step or no config; give another folder")
        for key in sorted(saved.keys() | self.identity.keys()):
            if saved.get(key) != self.identity.get(key):
                before, now = quote(saved.get(key)), quote(self.identity.get(key))
                raise InputError(
                    f"{path} is of another training: {key} was {before} and is {now} now; give "
                    "the same config, or another folder"
                )
        try:
            check_finite(content["model"], f"the weights of {path}")
            self.model.load_state_dict(content["model"])
            for key, part in self.parts.items():
                part.load_state_dict(content[key])
        except InputError:
            raise
        except Exception as error:  # optimizer and scheduler take anything for a state dict, and fail in all ways
            raise InputError(f"{damaged} ({type(error).__name__}); give another folder") from error
        return int(content["step"])

    def _last(self) -> Path | None:
        """Return the path of the newest checkpoint, or None if there is none."""
        tag = self.out / LAST
        if not tag.is_file():
            return None
        name = read_text(tag, "name of a checkpoint", 1000).strip()
        if not re.fullmatch(r"model_\d+\.pth", name):  # a file of this folder
            raise InputError(f"{tag} names {quote(name)}, which is no checkpoint; give another folder")
        return self.out / name


def refuse_second(folder: Path) -> None:
    """Raise `InputError` if a folder holds a training already."""
    if (folder / LAST).is_file():
        raise InputError(f"{folder} already holds a training; resume it, or give another folder")


def _identity(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Return the config keys on which the weights depend, with their values, as a flat dict."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        name = prefix + key
        if isinstance(value, CfgNode):
            flat |= _identity(value, f"{name}.")
        elif not any(name == free or name.startswith(f"{free}.") for free in _FREE_KEYS):
            # Through JSON, so that tuples become lists as in a saved checkpoint.
            flat[name] = json.loads(json.dumps(value))
    return flat
