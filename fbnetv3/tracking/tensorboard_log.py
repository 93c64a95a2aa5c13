"""TensorBoard's event files: `tensorboard --logdir DIR/logs/tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from fbnetv3.files import make_folder
from fbnetv3.tracking.tracker import numbers


class TensorBoardLog:
    """Has a folder of event files for each table, because their numbers count different things.

    Rows that come again replace those that are there: TensorBoard hides what a file with `purge_step` takes back.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = make_folder(folder), about
        self.writers: dict[str, SummaryWriter] = {}

    def begin(self, table: str, done: int) -> None:
        """Start a new event file, which takes back the rows after number `done`."""
        if table in self.writers:
            self.writers.pop(table).close()
        writer = SummaryWriter(str(self.folder / table), purge_step=done + 1)
        if self.about:
            writer.add_text("settings", f"```\n{json.dumps(self.about, indent=1, default=str)}\n```", done + 1)
        self.writers[table] = writer

    def write(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Log the numbers of a row."""
        for key, value in numbers(row).items():
            self.writers[table].add_scalar(f"{table}/{key}", value, number)
        self.writers[table].flush()  # a thread writes what is added, seconds later

    def close(self) -> None:
        """Close the event files."""
        for writer in self.writers.values():
            writer.close()


def open_log(folder: Path, about: Mapping[str, Any]) -> TensorBoardLog:
    """Return the log in a folder."""
    return TensorBoardLog(folder / "tensorboard", about)
