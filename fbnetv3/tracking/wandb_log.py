"""Weights & Biases: online if the user is logged in, else offline: `wandb sync DIR/logs/wandb/wandb/offline-run-*`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from fbnetv3.files import make_folder
from fbnetv3.tracking.logged import Logged

PROJECT = "fbnetv3"
WRITTEN = 30.0  # seconds after which a row is surely in W&B's file: a process of W&B writes it every 15 seconds
NUMBER = "number"  # key of a row's number, which is the axis of the charts of its table


class WandbLog:
    """Logs each row in one run. Rows that come again are left out, because W&B takes none back.

    After a crash, those of the last half minute are logged again, because W&B may have lost them. If it has not, they are there
    twice.

    The variables WANDB_MODE, WANDB_PROJECT and WANDB_ENTITY count as usual.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.logged = Logged(make_folder(folder) / "logged.txt")
        self.waiting: deque[tuple[float, str, int]] = deque()  # rows that may not be written yet, with their times
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.logged.run,
            resume="allow",
            dir=str(folder),
            mode=_mode(),
            config=dict(about),
            settings=wandb.Settings(console="off", silent=True),
        )

    def begin(self, table: str, done: int) -> None:
        """Let the rows' numbers be the axis of their charts."""
        self.run.define_metric(f"{table}/*", step_metric=f"{table}/{NUMBER}")

    def write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Log a row that was not logged before."""
        if (table, number) in self.logged:
            return
        known = {key: value for key, value in {NUMBER: number, **row}.items() if value is not None}
        self.run.log({f"{table}/{key}": value for key, value in known.items()})
        self.waiting.append((time.monotonic(), table, number))
        self._note(time.monotonic() - WRITTEN)

    def close(self) -> None:
        """End the run."""
        self.run.finish()
        self._note(time.monotonic())

    def _note(self, before: float) -> None:
        """Note the rows that were logged up to a time."""
        while self.waiting and self.waiting[0][0] <= before:
            _, table, number = self.waiting.popleft()
            self.logged.add(table, number)


def _mode() -> Any:
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    return "online" if wandb.login(prompt=False) else "offline"


def open_log(folder: Path, about: Mapping[str, Any]) -> WandbLog:
    """Return the log in a folder, and go on with its run if it has one."""
    return WandbLog(folder / "wandb", about)
