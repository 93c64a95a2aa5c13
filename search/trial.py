"""Candidates, their trainings (trials), and the ledger: the file that holds every trial of a search.

This is all that the rest of the search knows of a training. An evaluator answers with an `Outcome`; the search adds where
the trial stands in the search and writes it to the ledger before it goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass as plain_dataclass
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, Protocol, TypeGuard, cast, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError, quote
from fbnetv3.schema import STRICT, parse_json, read
from fbnetv3.training.recipe import Recipe

SCHEMA = 2
REPEATS = 0  # number of the round that trains some candidates of round 1 a second time, with another seed
PLANNED = "planned"  # key of a ledger's line with a training that had not started when it was written
Status = Literal["ok", "diverged", "failed"]
Natural = Annotated[int, Field(ge=0, lt=2**63)]  # NumPy's integers have no more
Finite = Annotated[float, Field(allow_inf_nan=False)]
Place = tuple[int, int]  # round and index: identifies a trial within a search
Fault = Callable[["Planned"], str]
Stop = Callable[[Sequence[float]], bool]
"""Tells from the accuracies of a training so far whether it ends here, before its last epoch."""


class Candidate(NamedTuple):
    """An architecture with a recipe: the pair (A, h) of the paper.

    `values` maps every coordinate of the search space to the candidate's value (widths as built).
    """

    arch: Arch
    recipe: Recipe
    values: Mapping[str, Any] = {}


@plain_dataclass(frozen=True)
class Outcome:
    """What one training gave.

    Attributes:
        acc1: validation accuracy in percent after every epoch, from 0 to 100; empty unless the status is `ok`.
        status: `diverged` means that the loss became infinite or NaN, which says something about the candidate. `failed`
            means that the training ended for another reason, which says nothing about it.
        seconds: wall time of the training.
        error: why it failed; empty otherwise.
        test_acc1: the same as `acc1` on the test images; empty unless the training is one of a collection. No search sees it.
    """

    acc1: tuple[float, ...]
    status: Status
    seconds: float
    error: str = ""
    test_acc1: tuple[float, ...] = dataclasses.field(default=(), repr=False)


class Evaluator(Protocol):
    """Trains a candidate, or looks its accuracy up. Any callable with this signature will do."""

    def __call__(self, candidate: Candidate, epochs: int, seed: int, /) -> Outcome:
        """Train for the first `epochs` epochs of the candidate's recipe; the same arguments give the same outcome.

        An evaluator that also has a parameter `stop` is given a `Stop` where a search has one. It calls it after every epoch,
        and returns with fewer accuracies where the answer is yes. Every other evaluator trains for all epochs.
        """
        ...


def until_stopped(acc1: Sequence[float], stop: Stop | None) -> tuple[float, ...]:
    """Return the accuracies of a training up to the epoch where `stop` ends it."""
    ends = (k for k in range(1, len(acc1)) if stop is not None and stop(acc1[:k]))
    return tuple(acc1[: next(ends, len(acc1))])


def fault_of(
    status: object, acc1: object, seconds: object, epochs: int, stopped: bool = False, test_acc1: object = ()
) -> str:
    """Return why this cannot be the outcome of a training of `epochs` epochs, or nothing if it can.

    The accuracies count only if the status is `ok`.

    Args:
        stopped: whether the training ended before its last epoch.
        test_acc1: the accuracies on the test images: none, or as many as `acc1`.
    """
    if not isinstance(status, str) or status not in get_args(Status):
        return f"the status is {quote(status)}; allowed: {', '.join(get_args(Status))}"
    if not _is_number(seconds) or not 0 <= seconds < math.inf:
        return f"the seconds are {quote(seconds)}; allowed: a number of at least 0"
    if status != "ok":
        return ""
    if fault := _fault_of_curve(acc1, epochs, stopped):
        return fault
    return _fault_of_curve(test_acc1, len(cast(Sized, acc1))) if test_acc1 else ""


def _fault_of_curve(acc1: object, epochs: int, stopped: bool = False) -> str:
    if not isinstance(acc1, Sized) or not isinstance(acc1, Iterable) or isinstance(acc1, str | bytes | Mapping):
        return f"the accuracies are {quote(acc1)}; allowed: a tuple with a number for every epoch"
    if not 1 <= len(acc1) < epochs if stopped else len(acc1) != epochs:
        return f"there are {len(acc1)} accuracies for {epochs} epochs; allowed: one for every epoch"
    for epoch, value in enumerate(acc1, 1):
        if not _is_number(value) or not 0 <= value <= 100:
            return f"the accuracy after epoch {epoch} is {quote(value)}; allowed: percent, from 0 to 100"
    return ""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True, config=STRICT)
class Planned:
    """One training of one candidate, before it is made: its place in the search, and why it is made."""

    round: Natural  # from 1; `REPEATS` for a second training of a candidate of round 1
    index: Natural  # place in the round, from 0
    candidate: list[Natural]  # index row in the search space
    seed: Natural
    epochs: Annotated[Natural, Field(ge=1)]
    flops: Natural  # in the convention of the search's constraint
    params: Natural
    # Mean and std when it was chosen; None where no predictor chose it.
    predicted: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None

    @property
    def place(self) -> Place:
        """Round and index, which no other training of the search has."""
        return self.round, self.index


@dataclass(frozen=True, config=STRICT)
class Trial(Planned):
    """One training of one candidate: why it was made, and what it gave."""

    acc1: list[float]  # validation accuracy in percent after every epoch; empty unless ok
    status: Status
    seconds: float  # wall time; equal searches may differ in it
    error: str = ""  # why it failed
    stopped: bool = False  # ended before its last epoch, because its accuracies were hopeless
    test_acc1: list[float] = Field(default_factory=list)  # of the test images after every epoch; of a collection alone

    @property
    def trained(self) -> int:
        """Number of epochs that it trained for, as far as is known."""
        return len(self.acc1) or self.epochs


def evaluated(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that say something about their candidate: all but the failed ones."""
    return [trial for trial in trials if trial.status != "failed"]


def in_rounds(trials: Iterable[Trial]) -> list[Trial]:
    """Return trials in the order of a search: by round and index, the repeats after round 1, whose candidates they repeat.

    A ledger has them in the order in which they ended, which depends on the workers.
    """
    return sorted(trials, key=lambda trial: (trial.round or 1, trial.round == REPEATS, trial.index))


def completed(trials: Sequence[Trial]) -> list[Trial]:
    """Return the evaluated trials whose trainings were not stopped early."""
    return [trial for trial in evaluated(trials) if not trial.stopped]


def comparable(trials: Sequence[Planned]) -> list[dict[str, Any]]:
    """Return what two equal searches agree on, ordered by (round, index): everything but wall times and error texts."""
    ordered = sorted(trials, key=lambda trial: trial.place)
    return [{k: v for k, v in dataclasses.asdict(t).items() if k not in ("seconds", "error")} for t in ordered]


class Ledger:
    """An append-only file with all trials of one search. Open it with `Ledger.open`.

    An asynchronous search also writes every training before it starts, because the next proposals depend on what is training.
    """

    def __init__(self, path: Path, lines: _Lines, file: BinaryIO) -> None:
        self.path = path
        self._trials, self._planned = lines
        self._file = file

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they were first written. A failed trial that was repeated appears once."""
        return list(self._trials.values())

    @property
    def planned(self) -> list[Planned]:
        """The trainings that were written before they started, in this order."""
        return list(self._planned.values())

    @property
    def pending(self) -> list[Planned]:
        """Those of them that have not ended."""
        return [planned for planned in self.planned if planned.place not in self._trials]

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str | Path, config: str, fault: Fault | None = None) -> Iterator[Ledger]:
        """Create the ledger of a configuration, or continue it, and lock it against a second process.

        Args:
            path: the file; its folder is created if necessary.
            config: fingerprint of the search's configuration. A ledger of another configuration is refused.
            fault: returns why a trial cannot be one of this search, or nothing if it can.

        Raises:
            InputError: another process uses the ledger, it belongs to another configuration, it is damaged, or it holds a trial
                of another search. A last line that a crash cut off is no damage: the line is removed and its trial is
                trained again.
        """
        path = Path(path)
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
            complete = content[: content.rfind(b"\n") + 1]
            if len(complete) < len(content):
                # A crash cut the last line off. Its trial counts as not made.
                file.truncate(len(complete))
            if not complete:
                _append(file, _header(config) + "\n")
            elif (found := complete.split(b"\n", 1)[0].decode(errors="replace")) != _header(config):
                raise InputError(_wrong_header(path, found))
            yield cls(path, _parse(path, complete, fault), file)

    def append(self, trial: Trial) -> None:
        """Add a trial, or replace the failed one at its place. The trial is on the disk when this returns.

        Raises:
            InputError: the disk is full or gone; the ledger keeps all earlier trials.
        """
        self._write(dataclasses.asdict(trial))
        self._trials[trial.place] = trial

    def plan(self, planned: Planned) -> None:
        """Add a training that is about to start. It is on the disk when this returns.

        Raises:
            InputError: as in `append`.
        """
        self._write({PLANNED: dataclasses.asdict(planned)})
        self._planned[planned.place] = planned

    def _write(self, line: dict[str, Any]) -> None:
        if not line.get("test_acc1", True):
            del line["test_acc1"]  # of a search, which measures none
        try:
            _append(self._file, json.dumps(line) + "\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}; free some space and resume") from error


def read_ledger(path: str | Path, fault: Fault | None = None, config: str | None = None) -> list[Trial]:
    """Return the trials of a ledger without locking it, so that a running search can be watched.

    Args:
        fault: as in `Ledger.open`.
        config: as in `Ledger.open`; None accepts the ledger of any configuration.

    Raises:
        InputError: no such file, a damaged one, one of another configuration, or one with a trial of another search.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the ledger {path}: {error.strerror}; give the folder of a search") from None
    # What follows the last line break is a line that is being written, or that a crash cut off.
    complete = content[: content.rfind(b"\n") + 1]
    found = complete.split(b"\n", 1)[0].decode(errors="replace")
    if complete and not (found.startswith(f'{{"ledger": {SCHEMA}, ') if config is None else found == _header(config)):
        raise InputError(_wrong_header(path, found))
    return list(_parse(path, complete, fault).trials.values())


def ledger_config(path: Path) -> str | None:
    """Return the fingerprint of the configuration that a ledger belongs to; None where there is no ledger, or a damaged one."""
    try:
        with path.open("rb") as file:
            data = parse_json(file.readline(1000), "header")
    except (OSError, InputError):
        return None
    config = data.get("config") if isinstance(data, dict) else None
    return config if isinstance(config, str) else None


def _header(config: str) -> str:
    return json.dumps({"ledger": SCHEMA, "config": config})


def _append(file: BinaryIO, line: str) -> None:
    file.write(line.encode())
    file.flush()
    # A trial may have cost hours: it must survive a power cut.
    os.fsync(file.fileno())


def _wrong_header(path: Path, found: str) -> str:
    if found.startswith('{"ledger": ') and not found.startswith(f'{{"ledger": {SCHEMA},'):
        return (
            f"{path} has another schema, this version reads schema {SCHEMA}; resume it with the version of fbnetv3 that "
            "started it"
        )
    return f"{path} belongs to another configuration, or is damaged; restore it or the configuration, or give another folder"


class _Lines(NamedTuple):
    trials: dict[Place, Trial]
    planned: dict[Place, Planned]


def _parse(path: Path, content: bytes, fault: Fault | None) -> _Lines:
    trials, planned = _Lines({}, {})
    for number, line in enumerate(content.splitlines()[1:], 2):
        where, advice = f"{path}: line {number}", "restore the file, or start in another folder"
        # Earlier versions wrote the NaN of a custom evaluator.
        row = parse_json(line, f"{where} is damaged; {advice}", nan=True)
        ahead = isinstance(row, dict) and list(row) == [PLANNED]
        entry = read(Planned, row[PLANNED], where) if ahead else _as_recorded(read(Trial, row, where))
        if fault and (text := fault(entry)):
            raise InputError(f"{where}: {text}; {advice}")
        # Only a failed training may be repeated; any other second line for a place means that two files were mixed.
        before = trials.get(entry.place) if isinstance(entry, Trial) else planned.get(entry.place)
        if before and getattr(before, "status", "") != "failed":
            raise InputError(f"{where} repeats trial {entry.index} of round {entry.round}; {advice}")
        if isinstance(entry, Trial):
            trials[entry.place] = entry
        else:
            planned[entry.place] = entry
    return _Lines(trials, planned)


def _as_recorded(trial: Trial) -> Trial:
    """Return a trial whose accuracies can be used. One whose outcome is wrong is a failed one, which is trained again."""
    wrong = fault_of(trial.status, trial.acc1, trial.seconds, trial.epochs, trial.stopped, trial.test_acc1)
    if wrong:
        error = f"recorded wrongly: {wrong}"
        return dataclasses.replace(
            trial, status="failed", acc1=[], seconds=0.0, error=error, stopped=False, test_acc1=[]
        )
    return trial if trial.status == "ok" else dataclasses.replace(trial, acc1=[], test_acc1=[])
