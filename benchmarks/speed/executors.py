"""Parallel efficiency of the search's executors with two workers: the process pool, and a local Ray cluster.

The rival is one worker that does all jobs alone: two workers should be twice as fast. It takes some minutes and needs two
idle processors. Start it with `chrt -r 50`, which gives it a real-time priority over other processes. The target: an
efficiency of 90% for jobs of half a second and of two seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fbnetv3.benchmarks.command import Rounds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.executor import Executor, Job
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.space.constraints import Constraint, sample
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Outcome

WORKERS = 2
COUNTS = {0.5: 12, 2.0: 6}  # number of jobs of a run, by the seconds of a job
METHOD = (
    "Seconds for all jobs of a run, in three executors that take turns, in an order drawn again in every round: `here` (in "
    "process, one after another), the process pool and a local Ray with 2 workers each, all started beforehand and warmed "
    "up by 4 jobs. `cpu` jobs hash a number of times that took the given seconds when it was set, in this run; `sleep` jobs "
    "only wait, so that other work on the machine does not slow them and what is lost is the executor's. `efficiency` of a "
    "round is seconds here / (2 x seconds there); median, lowest and highest round are given. `load` is the machine's "
    "1-minute load average before and after; the workers themselves are in the latter."
)
COLUMNS: dict[str, Format] = {
    "jobs": "{jobs}",
    "process pool": lambda row: "{efficiency:.1%} [{low:.1%}, {high:.1%}]".format(**row["pool"]),
    "Ray": lambda row: "{efficiency:.1%} [{low:.1%}, {high:.1%}]".format(**row["ray"]),
}


@dataclass(frozen=True)
class BusyJob:
    """An evaluator that trains nothing: it hashes `epochs` thousand times, or sleeps `epochs` milliseconds."""

    kind: str  # cpu | sleep

    def __call__(self, candidate: Any, epochs: int, seed: int) -> Outcome:
        """Return an outcome after the work is done."""
        start = time.monotonic()
        if self.kind == "cpu":
            hashlib.pbkdf2_hmac("sha256", b"busy", b"%d" % seed, epochs * 1000)
        else:
            time.sleep(epochs / 1000)
        # Of all outcomes, this one alone has no accuracies, of which there would be thousands.
        return Outcome((), "diverged", time.monotonic() - start)


@dataclass(frozen=True)
class EitherJob:
    """An evaluator for both kinds of jobs, so that one executor with its started workers does both.

    The seed is the only argument that a job may choose freely: odd seeds sleep, even seeds compute.
    """

    def __call__(self, candidate: Any, epochs: int, seed: int) -> Outcome:
        """Return an outcome after the work is done."""
        return BusyJob("sleep" if seed % 2 else "cpu")(candidate, epochs, seed)


def measure(rounds: Rounds = 5) -> Measured:
    """Time the jobs of every kind and length in all executors."""
    load = os.getloadavg()[0]
    space, recipe = load_space("micro"), load_recipe("fashion_mnist/micro")
    # A real candidate, because the executors send it to their workers. Nobody trains it.
    row = sample(space, 1, Constraint("flops", max=4e5, min=1.5e5), seed=0)[0]
    candidate = space.candidate(row.tolist(), recipe, "busy")
    # How much work half a second is depends on the machine, so it is measured first.
    thousands = thousands_per_second()
    seconds: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        executors: dict[str, Executor] = {
            name: stack.enter_context(settings.start(EitherJob()))
            for name, settings in (
                ("here", ExecutorSettings(workers=1)),
                ("pool", ExecutorSettings(workers=WORKERS)),
                ("ray", ExecutorSettings("ray", workers=WORKERS, address="local")),
            )
        }
        for executor in executors.values():
            # The first jobs of a worker start a process and import the package, which is not what is measured.
            time_jobs(executor, dict.fromkeys(range(2 * WORKERS), Job(candidate, 300, 1)))
        # A random order in every round: no executor always runs after the same other one.
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for length, count in COUNTS.items():
                for kind in ("cpu", "sleep"):
                    size = round(length * (1000 if kind == "sleep" else thousands))
                    jobs = {i: Job(candidate, size, 2 * i + (kind == "sleep")) for i in range(count)}
                    times = seconds.setdefault(f"{kind}_{length:g}s", {name: [] for name in executors})
                    for name in rng.permutation(list(executors)).tolist():
                        times[name].append(time_jobs(executors[name], jobs))
    values: Values = {case: efficiencies(times) for case, times in seconds.items()}
    values |= {"rounds": rounds, "load": {"before": round(load, 2), "after": round(os.getloadavg()[0], 2)}}
    # A real-time priority changes how much other work disturbs the jobs, so the result file says whether there was one.
    policy = {os.SCHED_RR: "real-time", os.SCHED_OTHER: "normal"}.get(os.sched_getscheduler(0), "other")
    return Measured(values, facts={"scheduling": policy})


def time_jobs(executor: Executor, jobs: Mapping[int, Job]) -> float:
    """Run the jobs and return the seconds that all of them took.

    Raises:
        RuntimeError: a job has no outcome, or has failed.
    """
    start = time.monotonic()
    if (ended := sum(outcome.status != "failed" for _, outcome in executor.run(jobs))) != len(jobs):
        raise RuntimeError(f"{ended} of {len(jobs)} jobs ended")
    return time.monotonic() - start


def thousands_per_second() -> float:
    """Return how many thousand hashes a processor computes per second: the median of five tries."""
    tries = []
    for _ in range(5):
        start = time.process_time()  # not the clock: other work on the machine must not make the jobs smaller
        BusyJob("cpu")(None, 200, 0)
        tries.append(200 / (time.process_time() - start))
    return float(np.median(tries))


def efficiencies(times: Mapping[str, list[float]]) -> Values:
    """Return the median seconds of every executor, and the parallel efficiency of those with several workers."""
    rows: Values = {"seconds": {name: round(float(np.median(t)), 3) for name, t in times.items()}}
    for name in ("pool", "ray"):
        ratios = np.array(times["here"]) / (WORKERS * np.array(times[name]))
        median, low, high = (round(float(v), 4) for v in (np.median(ratios), ratios.min(), ratios.max()))
        rows[name] = {"efficiency": median, "low": low, "high": high}
    return rows


def case_values(values: Values) -> Values:
    """Return the values of the jobs by kind and length, without the facts about the run."""
    return {name: row for name, row in values.items() if isinstance(row, Mapping) and "pool" in row}


def targets(values: Values) -> dict[str, Target]:
    """Return the target of every kind and length of jobs in both executors: a median efficiency of 90%."""
    return {
        f"{case}_{name}": Target(row[name]["efficiency"], "at_least", 0.9)
        for case, row in case_values(values).items()
        for name in ("pool", "ray")
    }


def tables(result: Result) -> dict[str, Table]:
    """Return the efficiency of both executors, with the lowest and the highest round."""
    rows = ({"jobs": case.replace("_", ", "), **row} for case, row in case_values(result.values).items())
    return {"parallel efficiency with two workers": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark("parallel", METHOD, ("torch", "ray", "numpy"), measure, targets, tables=tables)
