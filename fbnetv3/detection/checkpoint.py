"""Checkpoints of a detector's training: all that resuming needs, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from fbnetv3.errors import InputError
from fbnetv3.files import load_torch, save_torch, write_atomically

LAST = "last_checkpoint"  # the file that names the newest, as detectron2 has it
# Keys that may differ between a checkpoint and its resumption: they do not change the weights.
_FREE = (
    "OUTPUT_DIR",
    "DATALOADER.NUM_WORKERS",
    "DATASETS.TEST",
    "TEST",
    "SOLVER.CHECKPOINT_PERIOD",
    "VIS_PERIOD",
    "MODEL.DEVICE",  # of several processes every one has its own
)


class Checkpointer:
    """detectron2's checkpoints (`model_STEP.pth`, `last_checkpoint`), whole or absent, of this training only."""

    def __init__(self, cfg: CfgNode, model: nn.Module, classes: tuple[str, ...], kept: dict[str, Any]) -> None:
        self.out, self.model, self.classes, self.kept = Path(cfg.OUTPUT_DIR), model, classes, kept
        self.identity, self.device = _identity(cfg), torch.device(cfg.MODEL.DEVICE)

    def write(self, step: int) -> None:
        """Save after so many steps; the one before is deleted then.

        Raises:
            InputError: it cannot be written; the one before is still there.
        """
        if not comm.is_main_process():
            return
        before = self._last()
        path = self.out / f"model_{step:07d}.pth"
        content = {key: part.state_dict() for key, part in self.kept.items()}
        content |= {"model": self.model.state_dict(), "step": step, "classes": list(self.classes)}
        save_torch(path, content | {"identity": json.dumps(self.identity)})
        write_atomically(self.out / LAST, path.name)
        if before is not None and before != path:
            before.unlink(missing_ok=True)

    def resume(self, allowed: bool) -> int:
        """Load the last checkpoint, if there is one: the steps that it has.

        Raises:
            InputError: there is one and resuming is not `allowed`, or it is damaged or of another config.
        """
        path = self._last()
        if path is None:
            return 0
        if not allowed:
            raise InputError(f"{self.out} already holds a training; resume it, or give another folder")
        content = load_torch(path, "checkpoint", ("model", "step", "identity", *self.kept))
        was = json.loads(content["identity"])
        for key in sorted(was.keys() | self.identity.keys()):
            if was.get(key) != self.identity.get(key):
                raise InputError(
                    f"{path} is of another training: {key} was {was.get(key)!r}, now {self.identity.get(key)!r}; give the "
                    "same config, or another folder"
                )
        self.model.load_state_dict(content["model"])
        for key, part in self.kept.items():
            part.load_state_dict(content[key])
        return int(content["step"])

    def _last(self) -> Path | None:
        tag = self.out / LAST
        return self.out / tag.read_text().strip() if tag.is_file() else None


def _identity(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """The config flat, without what does not change the weights."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        name = prefix + key
        if isinstance(value, CfgNode):
            flat |= _identity(value, f"{name}.")
        elif not any(name == free or name.startswith(f"{free}.") for free in _FREE):
            flat[name] = json.loads(json.dumps(value))
    return flat
