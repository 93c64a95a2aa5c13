"""NARS and random search in equal time, with as many trials side by side on one card as make most trainings a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.gpu.trainings import Training, side_by_side, train
from fbnetv3.benchmarks.harness import Values
from fbnetv3.errors import InputError
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import Job, Jobs, in_order
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.nars.batches import BatchRunner, foreign_trial
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.run import SEARCHES
from fbnetv3.search.trial import Ledger, Outcome, evaluated
from fbnetv3.training.engine import cpu_threads

OVER = "not started, because the time was over"
EVERY = 4  # trials train on every so many-th training image
VAL_EVERY = 2  # and are measured on every so many-th validation image
RATED = 2  # epochs of the trainings that measure the rate
ROUNDS = 4
FINALISTS = 1 / 8  # share of all trainings
SPARE = 0.1  # share of the time that no training is planned for
FINAL_SHARE = 0.2  # share of the time for training the answers


@dataclass(frozen=True)
class SideBySide:
    """An executor that gives a pool so many trials of a search at a time, on a part of the images.

    Attributes:
        end: the moment, by time.monotonic(), at which the time of the benchmark is over.
        stop: the time from which no training starts; those that were not started count as failed.
    """

    pool: ProcessPool
    at_once: int
    end: float
    stop: float = math.inf

    def run(self, jobs: Jobs[Any], at_once: int | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Yield the key and the outcome of every job, in the order in which the jobs end.

        All jobs are taken at the start, because the searches of this benchmark train in batches.
        """
        taken = dict(in_order(jobs))

        def work(key: Any) -> Outcome:
            job = taken[key]
            if time.monotonic() >= self.stop:
                return Outcome((), "failed", 0.0, OVER)
            training = Training(job.candidate.arch, job.candidate.recipe, None, EVERY, VAL_EVERY)
            return train(self.pool, training, job.epochs, job.seed, self.end)

        return side_by_side(taken, work, self.at_once)


@dataclass
class Study:
    """The measurements, each of which needs those before it.

    Attributes:
        pool: as many processes as trials are ever side by side.
        folder: of the ledgers.
        end: the moment, by time.monotonic(), at which the time of the benchmark is over.
        predictor: seconds of NARS in which nothing trains.
        most: largest number of epochs of the training of an answer.
        trainings: largest number of trainings of NARS.
        walls: about the seconds of so many trainings side by side, if they have all epochs of the recipe.
        rated: candidates that were trained to measure the rates.
        at_once: trials side by side in both searches.
        answers: index rows.
    """

    context: Context
    pool: ProcessPool
    folder: Path
    end: float
    predictor: float
    most: int
    trainings: int
    walls: dict[int, float] = field(default_factory=dict)
    answers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    at_once: int = 1
    rated: int = 0
    seconds: float = 0.0  # of NARS

    @property
    def left(self) -> float:
        """Seconds that are left for plans."""
        return (self.end - time.monotonic()) * (1 - SPARE)

    def executor(self, at_once: int, seconds: float = math.inf) -> SideBySide:
        """Return the executor with so many trials side by side, which starts trainings for so many seconds."""
        return SideBySide(self.pool, at_once, self.end, time.monotonic() + seconds)

    def new_jobs(self, count: int, epochs: int) -> dict[int, Job]:
        """Return trainings of candidates that were not trained before and have about the median FLOPs of the pool."""
        # In a search every candidate is new to its process, in which cuDNN tries its algorithms for each new shape. Trainings
        # of one candidate would be faster than those of a search, which would then not fit its time.
        pool = self.context.pool()
        order = np.argsort(self.context.space.cost(pool).flops("published"), kind="stable")
        first = len(pool) // 2 + self.rated
        self.rated += count
        rows = pool[order[np.arange(first, first + count) % len(pool)]]
        candidates = [self.context.space.candidate(row, self.context.base, "candidate") for row in rows]
        return {seed: Job(candidate, epochs, seed) for seed, candidate in enumerate(candidates)}

    def warm(self, processes: int) -> None:
        """Let each process load its libraries and images.

        A training that fails here is none of the measurements. If the cause stays, the case that meets it says so.
        """
        list(self.executor(processes).run(self.new_jobs(processes, 1)))

    def rate(self, count: int) -> Values:
        """Measure so many trainings side by side."""
        epochs = min(RATED, self.context.base.epochs)
        wall = self._run(count, epochs)
        # An upper estimate: what a training takes besides its epochs is counted more than once.
        self.walls[count] = wall * self.context.base.epochs / epochs
        rate = round(60 * count / wall, 2)
        return {"trials": count, "epochs": epochs, "seconds": round(wall, 2), "trainings_a_minute": rate}

    def _run(self, count: int, epochs: int) -> float:
        """Make so many trainings side by side, and return the seconds of all."""
        start = time.monotonic()
        outcomes = dict(self.executor(count).run(self.new_jobs(count, epochs)))
        if failed := [outcome.error for outcome in outcomes.values() if outcome.status == "failed"]:
            raise InputError(f"{len(failed)} of {count} trainings failed: {failed[0]}")
        return time.monotonic() - start

    def nars(self) -> Values:
        """Search with NARS in half of the time that is left after that for the final trainings."""
        share = self.left * (1 - FINAL_SHARE) / 2
        self.at_once, config = largest_search(self.context.config, share - self.predictor, self.walls, self.trainings)
        row = self._search("nars", config)
        self.seconds = row["seconds"]
        return row

    def random(self) -> Values:
        """Search at random, with as many trainings as start in the time that NARS took."""
        self._check("nars")
        # More candidates than the time is enough for, even if their trainings are much shorter than expected.
        count = 2 + int(3 * self.seconds * self.at_once / self.walls[self.at_once])
        config = self.context.config
        config = config.replace(first=None, batch=count, rounds=1, finalists=0, pool=max(count, config.pool))
        return self._search("random", config, self.seconds)

    def retrain(self) -> Values:
        """Train the answers on all images side by side, and measure them on the test images."""
        self._check("nars")
        epochs = final_epochs(self.left, self.walls, self.context.base.epochs, self.most)
        start = time.monotonic()

        def work(name: str) -> Outcome:
            candidate = self.context.space.candidate(self.answers[name], self.context.base, f"{name}_answer")
            recipe = candidate.recipe.replace(epochs=epochs)
            return train(
                self.pool,
                Training(candidate.arch, recipe, "test", 1, VAL_EVERY),
                epochs,
                self.context.config.seed,
                self.end,
            )

        row: Values = {"epochs": epochs}
        for name, outcome in side_by_side(self.answers, work, len(self.answers)):
            if outcome.status != "ok":
                raise InputError(f"the training of the answer of {name} is {outcome.status}: {outcome.error}")
            row[name] = outcome.acc1[-1]
        return row | {"seconds": round(time.monotonic() - start, 1)}

    def _check(self, name: str) -> None:
        if name not in self.answers:
            raise InputError(f"{name} has found no answer, which this needs")

    def _search(self, method: str, config: SearchConfig, seconds: float = math.inf) -> Values:
        """Make a search that starts trainings for so many seconds, and return its row of the result file."""
        context = Context.of(config)
        start = time.monotonic()
        fault = foreign_trial(config, context.space, method)
        with cpu_threads(1), Ledger.open(self.folder / f"{method}.jsonl", config.fingerprint, fault) as ledger:
            runner = BatchRunner(context, ledger, self.executor(self.at_once, seconds), silent)
            proposal = SEARCHES[method](context, runner)
            trials = [trial for trial in ledger.trials if trial.error != OVER]
        taken = time.monotonic() - start
        self.answers[method] = proposal.candidate
        cost = context.space.cost(np.array([proposal.candidate]))
        return {
            "trainings": len(trials),
            "not_ok": sum(trial.status != "ok" for trial in trials),
            "at_once": self.at_once,
            "seconds": round(taken, 1),
            "trainings_a_minute": round(60 * len(trials) / taken, 2),
            "epochs_of_a_trial": proposal.epochs,
            "val_acc1": max(context.label(t, t.epochs) for t in evaluated(trials)),
            "flops": int(cost.flops("published")[0]),
            "params": int(cost.params("published")[0]),
            "candidate": list(proposal.candidate),
        }


def largest_search(
    config: SearchConfig, seconds: float, walls: Mapping[int, float], most: int
) -> tuple[int, SearchConfig]:
    """Return how many trials run side by side, and the configuration with most trainings in the seconds.

    Args:
        walls: seconds of so many trainings side by side.
        most: largest number of trainings.

    Raises:
        InputError: there are too few for a search.
    """
    for count in sorted(walls, key=lambda count: walls[count] / count):  # the fastest first
        found = with_trainings(config, min(most, int(count / walls[count] * seconds)))
        # A batch that is smaller than this would never run so many side by side.
        if found.batch >= count or count == min(walls):
            return count, found
    raise InputError("no rate was measured: see what failed")


def with_trainings(config: SearchConfig, trainings: int) -> SearchConfig:
    """Return the configuration of a search of so many trainings.

    Raises:
        InputError: they are too few for a search.
    """
    batch = (trainings - max(1, int(FINALISTS * trainings))) // ROUNDS
    if batch < 2:
        raise InputError(f"there is time for {max(0, trainings)} trainings, which are too few; give more --seconds")
    pool = max(config.pool, ROUNDS * batch)
    return config.replace(first=None, batch=batch, rounds=ROUNDS, finalists=trainings - ROUNDS * batch, pool=pool)


def final_epochs(seconds: float, walls: Mapping[int, float], epochs: int, most: int) -> int:
    """Return how many epochs on all images fit the seconds, for two trainings side by side.

    Args:
        walls: seconds of trainings of `epochs` epochs on a part of the images, by how many were side by side.
        most: the largest answer.
    """
    measured = walls.get(2) or max(walls.values())  # of more than two it is an upper limit
    return max(2, min(most, int(seconds / (measured / epochs * EVERY))))  # two, because the first one is the warm-up
