"""Checkpoints of a training: everything that resuming needs, in one file that is complete or not there at all.

`fbnetv3.training.resume` reads them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn

from fbnetv3.files import save_torch, write_atomically
from fbnetv3.schema import STRICT
from fbnetv3.training.optim import MovingAverage
from fbnetv3.training.scaler import Scaler

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


@pydantic_dataclass(frozen=True, config=STRICT)
class EpochMetrics:
    """Metrics of one epoch. Accuracies are in percent, of the raw weights and of their moving average (EMA).

    Attributes:
        epoch: number of the epoch, from 1.
        lr: learning rate of its last step.
        train_loss: mean loss of its steps.
        ema_acc1: None if the recipe has no EMA; likewise `ema_acc5`.
    """

    epoch: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    train_loss: Annotated[float, Field(allow_inf_nan=False)]
    raw_acc1: Percent
    ema_acc1: Percent | None
    raw_acc5: Percent
    ema_acc5: Percent | None

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
        device_generators: likewise, of the generator of its GPU. Empty if the training was on the CPU.
    """

    step: int
    losses: Sequence[float]
    generators: Sequence[Tensor]
    device_generators: Sequence[Tensor] = ()

    def states(self, rank: int) -> tuple[Tensor, ...]:
        """Return the states of the generators of a process."""
        return self.generators[rank], *self.device_generators[rank : rank + 1]

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has of it."""
        fields = {name: getattr(self, name) for name in ("losses", "generators", "device_generators")}
        # A training on the CPU writes the entries of earlier versions, and nothing else.
        return {"step": self.step} | {name: list(value) for name, value in fields.items() if value}


@dataclass(frozen=True, eq=False)
class State:
    """The parts of a training that change with every step."""

    model: nn.Module  # not wrapped or compiled, so that the keys of its state dict are the network's
    ema: MovingAverage | None
    optimizer: torch.optim.Optimizer
    scaler: Scaler = field(default_factory=Scaler)

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
        "position": None if position is None else position.to_dict(),
    }
    if state.scaler.is_enabled():
        content["scaler"] = state.scaler.state_dict()
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
    # On the host, so that plain `torch.load` reads the weights on a machine without a GPU too.
    state = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in model.state_dict().items()}
    save_torch(out / BEST, {"epoch": metrics.epoch, "acc1": metrics.acc1, "state_dict": state})
