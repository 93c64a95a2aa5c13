"""Checkpoints of a training: everything that resuming needs, in one file that is complete or not there at all."""

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
from fbnetv3.schema import parse_json
from fbnetv3.training.optim import MovingAverage

logger = logging.getLogger(__name__)

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one epoch. Accuracies are in percent, of the raw weights and of their moving average (EMA).

    Attributes:
        epoch: number of the epoch, from 1.
        lr: learning rate of its last step.
        train_loss: mean loss of its steps.
        ema_acc1: None if the recipe has no EMA; likewise `ema_acc5`.
    """

    epoch: int
    lr: float
    train_loss: float
    raw_acc1: float
    ema_acc1: float | None
    raw_acc5: float
    ema_acc5: float | None

    @property
    def acc1(self) -> float:
        """The accuracy of the weights that the recipe reports."""
        return self.raw_acc1 if self.ema_acc1 is None else self.ema_acc1


@dataclass(frozen=True, eq=False)
class Position:
    """Where a training stands within an epoch.

    Attributes:
        step: number of steps that are done.
        losses: for each process, by rank, the sum of the losses of these steps.
        generators: for each process, by rank, the state of its torch generator.
    """

    step: int
    losses: Sequence[float]
    generators: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class State:
    """The parts of a training that change with every step."""

    model: nn.Module  # not wrapped or compiled, so that the keys of its state dict are the network's
    ema: MovingAverage | None
    optimizer: torch.optim.Optimizer

    @property
    def reported(self) -> nn.Module:
        """The network with the weights that the recipe reports: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module


def save(
    state: State, out: Path, identity: dict[str, Any], metrics: Sequence[EpochMetrics], position: Position | None = None
) -> None:
    """Write a checkpoint, and the metrics as CSV and as JSON lines.

    Args:
        identity: what must be the same when the training is resumed.
        position: where the training stands within the next epoch; None at the end of an epoch.

    Raises:
        InputError: the checkpoint cannot be written, for example because the disk is full. The old one is still there then.
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
    if rows:  # within the first epoch there are none yet
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out / "metrics.csv", table.getvalue())
        write_atomically(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    # The checkpoint comes last: after a crash before it, the epoch is trained and its metrics are written again.
    save_torch(out / CHECKPOINT, content)


def save_best(model: nn.Module, out: Path, metrics: EpochMetrics) -> None:
    """Write the weights that the recipe reports, after the best epoch so far."""
    save_torch(out / BEST, {"epoch": metrics.epoch, "acc1": metrics.acc1, "state_dict": model.state_dict()})


def resume_from(
    state: State, out: Path, identity: dict[str, Any], allowed: bool, world_size: int
) -> tuple[list[EpochMetrics], Position | None]:
    """Load the checkpoint in `out`, if there is one, into `state`.

    Args:
        allowed: whether the user wants to resume.
        world_size: number of processes.

    Returns:
        The metrics of the finished epochs, and the position in the next epoch, None for its start.

    Raises:
        InputError: there is a checkpoint and resuming is not `allowed`, or it is the checkpoint of another training or another
            network, or it stands within an epoch and the number of processes is another one.
    """
    path = make_folder(out) / CHECKPOINT
    if not path.exists():
        return [], None
    if not allowed:
        raise InputError(f"{out} already holds a training; resume it, or give another folder")
    # Everything is checked before anything is loaded, so that a refused checkpoint leaves the training as it is.
    content = load_torch(path, "checkpoint", ("identity", "metrics", "model", "ema", "optimizer", "position"))
    _check_identity(parse_json(content["identity"], f"{path} is no checkpoint, or is damaged"), identity, path)
    position = None if content["position"] is None else Position(**content["position"])
    # The rest of an epoch is shared out among the processes that started it; there is no generator for another one.
    if position is not None and len(position.generators) != world_size:
        raise InputError(
            f"{path} stands within an epoch of {len(position.generators)} processes, not {world_size}: resume with the same "
            "number. It may change only at the end of an epoch"
        )
    try:
        state.model.load_state_dict(content["model"])
    except RuntimeError as error:  # torch lists all differences; the first line says enough
        reason = str(error).split("\n")[0]
        raise InputError(f"{path} belongs to another network ({reason}); give another folder") from error
    if state.ema is not None:
        state.ema.load_state_dict(content["ema"])
    state.optimizer.load_state_dict(content["optimizer"])
    metrics = [EpochMetrics(**row) for row in content["metrics"]]
    logger.info("resumed %s after epoch %d", path, len(metrics))
    return metrics, position


def _check_identity(saved: dict[str, Any], identity: dict[str, Any], path: Path) -> None:
    # The keys of this version: a checkpoint that lacks one was written by an older version and cannot be trusted to agree.
    for key, value in identity.items():
        if saved.get(key) != value:
            raise InputError(
                f"{path} belongs to another training: {key} was {saved.get(key)!r}, now {value!r}; give another folder, or the "
                "old value"
            )
