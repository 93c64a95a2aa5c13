"""When a search was at work, and on what: `clock.json` in its folder.

A search that runs writes it for those who watch it. Nothing of the search depends on it. A search that cannot write it goes on.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.progress import Report
from fbnetv3.schema import STRICT, load_json, read
from fbnetv3.search.runs.folder import CONFIG, FOLDERS, LEDGER
from fbnetv3.search.trial import read_ledger

CLOCK = "clock.json"
EVERY = 10.0  # seconds between two notes about the same work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=STRICT)
class Session:
    """The time from the start of a search, or from its resumption, to what it reported last.

    Attributes:
        began, last: seconds since 1970; their difference is that of a clock which nobody sets.
        epochs: that all trainings in the ledgers had taken when it began.
    """

    began: float
    last: float
    epochs: int


@plain_dataclass(frozen=True)
class Clock:
    """All sessions of a search, and the words about its work that it reported last."""

    sessions: tuple[Session, ...] = ()
    doing: str = ""

    def wall(self, now: float | None = None) -> float:
        """Return the seconds of all sessions; with the present time `now`, the last one is still running."""
        seconds = sum(session.last - session.began for session in self.sessions)
        return seconds if now is None or not self.sessions else seconds + max(0.0, now - self.sessions[-1].last)


def read_clock(folder: Path) -> Clock:
    """Return what a search has noted. It is empty where a version before this one ran, or where the file is damaged."""
    try:
        data = load_json(folder / CLOCK, "clock of a search", ("sessions", "doing"))
        return Clock(tuple(read(Session, session, CLOCK) for session in data["sessions"]), str(data["doing"]))
    except (InputError, TypeError):
        return Clock()


def timed(progress: Report, folder: Path) -> Report:
    """Return a function that reports the same, and notes in the folder of the search when and what was reported."""
    before, start, began, epochs = read_clock(folder).sessions, time.monotonic(), time.time(), epochs_trained(folder)
    write, noted, head = _writer(folder), -EVERY, ""

    def report(done: int, total: int, text: str) -> None:
        nonlocal noted, head
        progress(done, total, text)
        now, words = time.monotonic() - start, text.split(", loss")[0]
        if words != head or now - noted >= EVERY:
            noted, head = now, words
            write(Clock((*before, Session(began, began + now, epochs)), words))

    return report


def epochs_trained(folder: Path) -> int:
    """Return how many epochs the trainings in the ledgers of a folder took."""
    total = 0
    for place in FOLDERS.values():
        try:
            total += sum(trial.trained for trial in read_ledger(folder / place / LEDGER))
        except InputError:  # there is none yet, or the search itself will say what is wrong with it
            continue
    return total


def _writer(folder: Path) -> Callable[[Clock], None]:
    """Return a function that writes the file, until that fails for the first time."""
    failed = False

    def write(clock: Clock) -> None:
        nonlocal failed
        # A folder without a configuration holds no search yet.
        if failed or not (folder / CONFIG).is_file():
            return
        data: dict[str, Any] = dataclasses.asdict(clock)
        try:
            write_atomically(folder / CLOCK, json.dumps(data) + "\n")
        except InputError as error:
            failed = True
            logger.warning("the search goes on, but `search status` will not know what it does: %s", error)

    return write
