"""Lanes: a process for each network, and the plan of its trainings.

A small network does not fill a GPU. So trainings of several networks side by side may take less time together than one after
the other. `measure_pace` finds out, and `make_plan` gives every network the same trainings, which fit the time.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fbnetv3.benchmarks.gpu.trainings import Training, TrainingEvaluator, side_by_side, train
from fbnetv3.errors import InputError
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.trial import Outcome
from fbnetv3.training.recipe import Recipe

SEED = 0  # of all trainings: networks see the same images in the same order
VAL_EVERY = 10  # validation images of every epoch but the last, where all are measured: most epochs need no accuracy
TIMED = (1, 3)  # epochs of two trainings: their difference is the time of epochs without what every training adds
SWEEP_SHARE = 0.25  # share of a network's epochs that the learning-rate sweep may take
SPARE = 0.1  # share of the time that no training is planned for


@dataclass(frozen=True)
class Lane:
    """The process of one network. Libraries choose their algorithms once in a process, for the shapes of a network.

    Attributes:
        end: the moment, by time.monotonic(), at which the time of the benchmark is over.
    """

    network: str
    pool: ProcessPool
    end: float

    def train(self, recipe: Recipe, epochs: int, split: str = "val", every: int = 1) -> Outcome:
        """Make one training. Its last accuracy is on all images of a split. It has failed if it has not ended in time."""
        return train(self.pool, Training(self.network, recipe, split, every, VAL_EVERY), epochs, SEED, self.end)


@contextlib.contextmanager
def open_lanes(networks: Sequence[str], evaluator: TrainingEvaluator, end: float) -> Iterator[list[Lane]]:
    """Yield a lane for each network. After the block, also after an error or Ctrl-C in it, all processes have ended."""
    with contextlib.ExitStack() as stack:
        yield [Lane(name, stack.enter_context(ProcessPool(evaluator, workers=1)), end) for name in networks]


@dataclass(frozen=True)
class Pace:
    """Seconds that trainings take.

    Attributes:
        at_once: how many networks train side by side.
        epoch: seconds of one epoch of every network.
        fixed: seconds that one training of every network takes besides its epochs.
        networks: seconds of one epoch of each network, while so many train.
    """

    at_once: int
    epoch: float
    fixed: float
    networks: Mapping[str, float]


def measure_pace(lanes: Sequence[Lane], recipe: Recipe, at_once: int, every: int) -> Pace:
    """Train every network twice for few epochs on every so many-th image, and return the pace for all images."""
    walls: list[float] = []
    seconds: list[dict[str, float]] = []
    for epochs in TIMED:
        work = functools.partial(Lane.train, recipe=recipe, epochs=epochs, every=every)
        start = time.monotonic()
        seconds.append({lane.network: outcome.seconds for lane, outcome in side_by_side(lanes, work, at_once)})
        walls.append(time.monotonic() - start)
    one = _epoch(*walls)
    each = {lane.network: every * _epoch(*(row[lane.network] for row in seconds)) for lane in lanes}
    return Pace(at_once, every * one, max(0.0, walls[0] - one * TIMED[0]), each)


def _epoch(short: float, long: float) -> float:
    """Return the seconds of an epoch, from those of trainings of `TIMED` epochs."""
    # Noise must not make it 0: a plan divides by it.
    return max((long - short) / (TIMED[1] - TIMED[0]), 0.1 * long / TIMED[1])


@dataclass(frozen=True)
class Plan:
    """The trainings of a network, the same for all: one of `sweep` epochs for each learning rate, then one of `epochs`."""

    sweep: int
    epochs: int


def make_plan(seconds: float, pace: Pace, rates: int, most: int) -> Plan:
    """Return the longest trainings of all networks that fit the seconds.

    Args:
        rates: number of learning rates in the sweep.
        most: largest number of epochs of all trainings of a network together.

    Raises:
        InputError: not even trainings of one epoch fit.
    """
    trainings = rates + 1
    whole = min(most, int((seconds * (1 - SPARE) - trainings * pace.fixed) / pace.epoch))
    if whole < trainings:
        raise InputError(
            f"{seconds:.0f} seconds are left, and {trainings} trainings of one epoch of each network take "
            f"{trainings * (pace.fixed + pace.epoch) / (1 - SPARE):.0f}; give more --seconds"
        )
    sweep = max(1, int(SWEEP_SHARE * whole / rates))
    return Plan(sweep, whole - rates * sweep)
