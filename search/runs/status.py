"""How far a search is: read from its folder, without a lock and without writing, so that a running search is not disturbed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any, Literal

from fbnetv3.files import is_locked
from fbnetv3.pair_file import load_pair
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.early_stopping import trial_epochs
from fbnetv3.search.nars.rounds import finalist_rounds, round_name, round_sizes
from fbnetv3.search.runs.clock import epochs_trained, read_clock
from fbnetv3.search.runs.confirm import load_confirmation
from fbnetv3.search.runs.folder import METHODS, RESULT, SearchFolder
from fbnetv3.search.trial import REPEATS, Trial, completed

State = Literal["running", "stopped", "ended", "unknown"]
Z90 = NormalDist().inv_cdf(0.95)  # an interval of so many deviations on either side holds 90%


@dataclass(frozen=True)
class Best:
    """The most accurate training so far.

    Attributes:
        trial: its round and index, such as 3.1.
        acc1: validation accuracy after `epochs` epochs.
        low, high: interval that should hold 90% of such trainings, as predicted before it; None where nothing was predicted.
        flops: in the convention of the search.
    """

    trial: str
    acc1: float
    epochs: int
    low: float | None
    high: float | None
    flops: int
    params: int


@dataclass(frozen=True)
class MethodStatus:
    """How far one method of a search is.

    Attributes:
        method: nars or random.
        round: what is trained now, in words; empty when all trainings have ended.
        diverged, failed, stopped: number of trainings that did. They are among `trainings`.
        answer: accuracy of its final training in words; empty without one.
    """

    method: str
    trainings: int
    total: int
    round: str
    diverged: int
    failed: int
    stopped: int
    best: Best | None
    answer: str


@dataclass(frozen=True)
class Status:
    """How far a search is.

    Attributes:
        state: `unknown` where nobody can say whether a process is at work: the file system has no locks.
        doing: what it reported last, such as a part of the final training.
        wall: seconds of all its sessions; None where no session was noted.
        seconds: of all trainings, one after the other.
        left: seconds until the end, estimated; None where nothing is known yet, and 0 at the end.
        next: command to type next.
    """

    folder: str
    name: str
    state: State
    doing: str
    methods: tuple[MethodStatus, ...]
    wall: float | None
    seconds: float
    left: float | None
    next: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return dataclasses.asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as names and texts."""
        lines = [("search", f"{self.name} in {self.folder}"), ("state", _STATES[self.state])]
        if self.state == "running" and self.doing:
            lines.append(("doing", self.doing))
        for method in self.methods:
            name = "" if len(self.methods) == 1 else f"{METHODS[method.method]}: "
            lines += [(f"{name}{key}", text) for key, text in _method_lines(method)]
        lines.append(("time", self._time()))
        return [*lines, ("next", self.next)]

    def _time(self) -> str:
        words = f"{duration(self.seconds)} of trainings"
        if self.wall is not None:
            words = f"{duration(self.wall)}, with {words}"
        if self.state != "ended":
            words += ", time left unknown" if self.left is None else f", about {duration(self.left)} left"
        return words


_STATES = {
    "running": "running",
    "stopped": "stopped: no process is at work",
    "ended": "ended",
    "unknown": "unknown: this file system has no locks that would show whether a process is at work",
}


def status_of(search: SearchFolder, now: float | None = None) -> Status:
    """Return how far a search is.

    Args:
        now: seconds since 1970; by default the present time.

    Raises:
        InputError: a damaged ledger, or one of another search.
    """
    config, locked = search.config, is_locked(search.path)
    ended = (search.path / RESULT).is_file() and not locked
    state: State = "ended" if ended else "unknown" if locked is None else "running" if locked else "stopped"
    trials = {method: search.trials(method) if search.ledger(method).is_file() else [] for method in _methods(config)}
    clock, everything = read_clock(search.path), [t for some in trials.values() for t in some]
    now = time.time() if now is None else now
    left = 0.0 if ended else _time_left(search, trials, now if state == "running" else None)
    return Status(
        str(search.path),
        config.name,
        state,
        clock.doing,
        tuple(_method(search, method, some) for method, some in trials.items()),
        clock.wall(now if state == "running" else None) if clock.sessions else None,
        sum(t.seconds for t in everything),
        left,
        _next(search, state),
    )


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that it has."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{seconds // 86400:.0f} d {seconds // 3600 % 24:.0f} h"


def comparable_epochs(context: Context, trials: Sequence[Trial]) -> int:
    """Return after how many epochs the trials of NARS are compared, as far as is known: those of round 1 decide it."""
    config, first = context.config, [t for t in trials if t.round == 1]
    if later := [t.epochs for t in trials if 1 < t.round <= config.rounds]:
        return later[0]
    return trial_epochs(trials, config, context.base.epochs) if len(first) == config.batches[0] else context.base.epochs


def _methods(config: SearchConfig) -> list[str]:
    return ["nars", "random"] if config.baseline else ["nars"]


def _method(search: SearchFolder, method: str, trials: Sequence[Trial]) -> MethodStatus:
    config = search.config
    statuses = [t.status for t in trials]
    return MethodStatus(
        method,
        len(trials),
        config.trainings,
        _round(config, method, trials),
        statuses.count("diverged"),
        statuses.count("failed"),
        sum(t.stopped for t in trials),
        _best(search.context, method, trials),
        _answer(search, method),
    )


def _round(config: SearchConfig, method: str, trials: Sequence[Trial]) -> str:
    """Return the first round that has not all of its trainings, in words."""
    sizes = round_sizes(config, method)
    names = {number: round_name(config, number) if method == "nars" else f"round {number}" for number in sizes}
    last = max(number for number, name in names.items() if name.startswith("round"))
    for number, size in sizes.items():
        done = sum(t.round == number for t in trials)
        if done < size:
            words = f"{names[number]} of {last}" if names[number].startswith("round") else names[number]
            return f"{words}: {done} of {size} trained"
    return ""


def best_so_far(context: Context, method: str, trials: Sequence[Trial]) -> tuple[Trial, int] | None:
    """Return the most accurate complete trial of a method, and after how many epochs trials are compared.

    Of equally accurate trials it is the earliest. None if no training has succeeded.
    """
    whole = [t for t in completed(trials) if t.status == "ok" and t.round != REPEATS]
    if not whole:
        return None
    # Early stopping ends later trainings sooner: all are compared after as many epochs.
    epochs = comparable_epochs(context, trials) if method == "nars" else context.base.epochs
    return max(whole, key=lambda t: (t.acc1[min(epochs, len(t.acc1)) - 1], -t.round, -t.index)), epochs


def _best(context: Context, method: str, trials: Sequence[Trial]) -> Best | None:
    found = best_so_far(context, method, trials)
    if found is None:
        return None
    trial, epochs = found[0], min(found[1], len(found[0].acc1))
    low, high = None, None
    if trial.predicted is not None:
        mean, std = trial.predicted
        low, high = mean - Z90 * std, mean + Z90 * std
    return Best(f"{trial.round}.{trial.index}", trial.acc1[epochs - 1], epochs, low, high, trial.flops, trial.params)


def _answer(search: SearchFolder, method: str) -> str:
    if not search.pair(method).is_file():
        return ""
    measured = load_pair(search.pair(method)).measured
    return (
        f"{measured['acc1']:.2f}% on the {measured['split']} images after {measured['epochs']} epochs"
        if measured
        else ""
    )


def _time_left(search: SearchFolder, trials: dict[str, list[Trial]], now: float | None) -> float | None:
    """Return how long the remaining epochs take, as fast as the present session trained, or else one after the other.

    Args:
        now: the present time if the search is running.
    """
    config, everything = search.config, [t for some in trials.values() for t in some]
    alone = sum(t.seconds for t in everything) / max(1, sum(t.trained for t in everything))  # seconds of an epoch
    if not everything:
        return None
    together, clock = alone, read_clock(search.path)
    if now is not None and clock.sessions:
        session = clock.sessions[-1]
        epochs = epochs_trained(search.path) - session.epochs
        if epochs > 0:
            together = max(0.0, now - session.began) / epochs
    base, final = search.context.base.epochs, search.context.base.epochs * config.final_stretch
    whole = (REPEATS, 1, *finalist_rounds(config))  # rounds whose trainings all have the epochs of the recipe
    later = [t.trained for t in trials["nars"] if t.round not in whole]
    usual = fmean(later) if later else comparable_epochs(search.context, trials["nars"])
    seconds = 0.0
    for method, some in trials.items():
        for number, size in round_sizes(config, method).items():
            missing = size - sum(t.round == number for t in some)
            seconds += together * missing * (base if method != "nars" or number in whole else usual)
        if config.final_training and not search.pair(method).is_file():
            seconds += alone * final
    if config.confirms and load_confirmation(search) is None:
        # The answers, and the network of NARS's answer with the base recipe, which has no final training yet.
        seconds += together * final * ((len(trials) + 1) * (config.confirm - 1) + 1)
    return seconds


def _next(search: SearchFolder, state: State) -> str:
    if state == "running":
        return f"fbnetv3 search watch {search.path}"
    if state != "ended":
        return f"fbnetv3 search resume {search.path}"
    if search.config.final_training and load_confirmation(search) is None:
        return f"fbnetv3 search confirm {search.path} --seeds 5"
    return f"fbnetv3 search top {search.path}"


def _method_lines(method: MethodStatus) -> list[tuple[str, str]]:
    words = f"{method.trainings} of {method.total}"
    words += f" ({method.trainings / method.total:.0%})" + (f"; {method.round}" if method.round else "")
    odd = {"diverged": method.diverged, "failed": method.failed, "stopped early": method.stopped}
    lines = [("trainings", ", ".join([words, *(f"{n} {name}" for name, n in odd.items() if n)]))]
    if (best := method.best) is not None:
        words = f"{best.acc1:.2f}% after {best.epochs} epochs (trial {best.trial}"
        if best.low is not None:
            words += f"; predicted before it: {best.low:.1f} to {best.high:.1f}%"
        lines.append(("best so far", f"{words}), {best.flops / 1e6:.3f}M FLOPs, {best.params / 1e3:.1f}K params"))
    return lines + ([("answer", method.answer)] if method.answer else [])
