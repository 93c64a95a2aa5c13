"""Checkpoints of a training: everything that resuming needs, whole or absent, after epochs and within them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.files import load_torch, make_folder, save_torch, write_atomically
from fbnetv3.training.optim import MovingAverage

logger = logging.getLogger(__name__)

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: mean training loss, and accuracies in percent of the raw and of the averaged weights."""

    epoch: int  # from 1
    lr: float  # of its last step
    train_loss: float
    raw_acc1: float
    ema_acc1: float | None  # None when the recipe has no EMA
    raw_acc5: float
    ema_acc5: float | None

    @property
    def acc1(self) -> float:
        """Of the weights that the recipe reports."""
        return self.raw_acc1 if self.ema_acc1 is None else self.ema_acc1


@dataclass(frozen=True, eq=False)
class Position:
    """Where a training stands within an epoch: steps done, and by rank the sum of their losses and the generator."""

    step: int
    losses: Sequence[float]
    generators: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class State:
    """The parts of a training that steps change."""

    model: nn.Module
    ema: MovingAverage | None
    optimizer: torch.optim.Optimizer

    @property
    def reported(self) -> nn.Module:
        """The network with the weights that the recipe reports: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module


def save(
    state: State, out: Path, identity: dict[str, Any], metrics: Sequence[EpochMetrics], position: Position | None = None
) -> None:
    """Write the checkpoint, and the metrics as CSV and JSON lines.

    Raises:
        InputError: it cannot be written, the disk is full for one; the old checkpoint is still there then.
    """
    rows = [dataclasses.asdict(m) for m in metrics]
    content = {
        "identity": json.dumps(identity),
        "metrics": rows,
        "model": state.model.state_dict(),
        "ema": None if state.ema is None else state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "position": None
        if position is None
        else {"step": position.step, "losses": list(position.losses), "generators": list(position.generators)},
    }
    if rows:
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out / "metrics.csv", table.getvalue())
        write_atomically(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    save_torch(out / CHECKPOINT, content)


def save_best(model: nn.Module, out: Path, metrics: EpochMetrics) -> None:
    """Write the reported weights of the best epoch so far."""
    save_torch(out / BEST, {"epoch": metrics.epoch, "acc1": metrics.acc1, "state_dict": model.state_dict()})


def resume_from(
    state: State, out: Path, identity: dict[str, Any], allowed: bool, world: int
) -> tuple[list[EpochMetrics], Position | None]:
    """Load the checkpoint of `out`, if there is one, into `state`: the epochs that it has, and where it stands in the next.

    Raises:
        InputError: there is one and resuming is not `allowed`, or it is of another training, another network, or of
            another number of processes in the middle of an epoch.
    """
    path = make_folder(out) / CHECKPOINT
    if not path.exists():
        return [], None
    if not allowed:
        raise InputError(f"{out} already holds a training; resume it, or give another folder")
    content = load_torch(path, "checkpoint", ("identity", "metrics", "model", "ema", "optimizer", "position"))
    _check_identity(json.loads(content["identity"]), identity, path)
    position = None if content["position"] is None else Position(**content["position"])
    if position is not None and len(position.generators) != world:
        raise InputError(
            f"{path} stands within an epoch of {len(position.generators)} processes, not {world}: resume with as many; "
            "at the end of an epoch the number may change"
        )
    try:
        state.model.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path} belongs to another network ({reason}); give another folder") from error
    if state.ema is not None:
        state.ema.load_state_dict(content["ema"])
    state.optimizer.load_state_dict(content["optimizer"])
    metrics = [EpochMetrics(**row) for row in content["metrics"]]
    logger.info("resumed %s after epoch %d", path, len(metrics))
    return metrics, position


def _check_identity(saved: dict[str, Any], identity: dict[str, Any], path: Path) -> None:
    for key, value in identity.items():
        if saved.get(key) != value:
            raise InputError(f"{path} belongs to another training: {key} was {saved.get(key)!r}, now {value!r}")
