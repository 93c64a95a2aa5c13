"""The ledger: every trial of a search, one JSON line each, appended and flushed to disk before the search goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT, read

SCHEMA = 2
Place = tuple[int, int]  # round and index


@dataclass(frozen=True, config=STRICT)
class Trial:
    """One training of one candidate, as it was proposed and as it came out."""

    round: int  # from 1; 0: a candidate of round 1 again, with another seed
    index: int  # in the round, from 0
    candidate: list[int]  # index row in the search space
    seed: int
    epochs: int
    flops: int  # in the convention of the search's constraint
    params: int
    predicted: list[float] | None  # mean and deviation when it was chosen; None in the first, random round
    acc1: list[float]  # validation accuracy in percent after every epoch; empty unless ok
    status: Literal["ok", "diverged", "failed"]
    seconds: float  # of wall time; not part of what a search is compared by
    error: str = ""  # why it failed

    @property
    def place(self) -> Place:
        """What tells a trial from others."""
        return self.round, self.index


def comparable(trials: list[Trial]) -> list[dict[str, Any]]:
    """What two equal searches agree on: all but wall time and the words of an error, ordered by (round, index)."""
    ordered = sorted(trials, key=lambda t: t.place)
    return [{k: v for k, v in dataclasses.asdict(t).items() if k not in ("seconds", "error")} for t in ordered]


class Ledger:
    """An append-only file of trials that belongs to one configuration. Open it with `Ledger.open`."""

    def __init__(self, path: Path, trials: dict[Place, Trial], file: BinaryIO) -> None:
        self.path = path
        self._trials = trials
        self._file = file

    @property
    def trials(self) -> list[Trial]:
        """In the order in which they were first written; of one that failed and was tried again, the last."""
        return list(self._trials.values())

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, config: str) -> Iterator[Ledger]:
        """Create or continue the ledger of a configuration, locked against a second driver.

        Args:
            path: the file.
            config: a fingerprint of what the search does; a ledger of another one is refused.

        Raises:
            InputError: another driver runs, the ledger is of another configuration, or it is damaged. A last line that was
                cut by a crash is no damage: it is removed, and its trial trained again.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; give a folder that can be written") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{path} is in use by another search; wait for it, or give another folder") from None
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                file.truncate(len(whole))
            header = json.dumps({"ledger": SCHEMA, "config": config}) + "\n"
            if not whole:
                _append(file, header)
            elif (found := whole.split(b"\n", 1)[0].decode(errors="replace")) + "\n" != header:
                raise InputError(_wrong_header(path, found))
            yield cls(path, _parse(path, whole), file)

    def append(self, trial: Trial) -> None:
        """Add a trial, in the place of one that failed; it is on the disk when this returns.

        Raises:
            InputError: the disk is full or gone; the ledger keeps all earlier trials.
        """
        try:
            _append(self._file, json.dumps(dataclasses.asdict(trial)) + "\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}; make room and resume") from error
        self._trials[trial.place] = trial


def read_ledger(path: str | Path) -> list[Trial]:
    """The trials of a ledger, without locking it.

    Raises:
        InputError: no such file, or a damaged one.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the ledger {path}: {error.strerror}; give the folder of a search") from None
    return list(_parse(path, content[: content.rfind(b"\n") + 1]).values())


def _append(file: BinaryIO, line: str) -> None:
    file.write(line.encode())
    file.flush()
    os.fsync(file.fileno())


def _wrong_header(path: Path, found: str) -> str:
    if found.startswith('{"ledger": ') and not found.startswith(f'{{"ledger": {SCHEMA},'):
        return f"{path} is of another schema, this version reads {SCHEMA}; resume it with the fbnetv3 that began it"
    return f"{path} belongs to another configuration, or is damaged; give another folder"


def _parse(path: Path, content: bytes) -> dict[Place, Trial]:
    trials: dict[Place, Trial] = {}
    for number, line in enumerate(content.splitlines()[1:], 2):
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(
                f"{path}: line {number} is damaged; restore the file, or start in another folder"
            ) from None
        trial = read(Trial, row, f"{path}: line {number}")
        before = trials.setdefault(trial.place, trial)
        if before is not trial and before.status != "failed":
            raise InputError(
                f"{path}: line {number} repeats trial {trial.index} of round {trial.round}; restore the file"
            )
        trials[trial.place] = trial
    return trials
