"""Parallel efficiency of the search's executors with two workers.

    chrt -r 50 fbnetv3 benchmark parallel

takes some minutes, wants two idle processors, and writes `results/parallel.json`. `--rounds 1` is a rehearsal; give it
another `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.executor import Execution, Executor, Job
from fbnetv3.search.execution.images import Outcome
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.sobol import sample
from fbnetv3.search.space.space import load_space

NAME, WORKERS, TARGET = "parallel", 2, 0.9
TASKS = {0.5: 12, 2.0: 6}  # by their seconds
METHOD = (
    "Seconds for all jobs of a run, in three executors that take turns, in an order drawn anew every round: `here` (in "
    "process, one after another), the process pool and a local Ray with 2 workers each, all started beforehand and warmed "
    "up by 4 jobs. `cpu` jobs hash a number of times that took the given seconds when it was set, in this run; `sleep` jobs "
    "only wait, so that other work on the machine does not slow them and what is lost is the executor's. `efficiency` of a "
    "round is seconds here / (2 x seconds there); median, lowest and highest round are given. `load` is the machine's "
    "1-minute load average before and after; the workers themselves are in the latter."
)


@dataclass(frozen=True)
class Task:
    """An evaluator that is busy: it hashes `epochs` thousand times, or sleeps so many milliseconds."""

    kind: str  # cpu | sleep

    def __call__(self, candidate: Any, epochs: int, seed: int) -> Outcome:
        """Always ok."""
        start = time.monotonic()
        if self.kind == "cpu":
            hashlib.pbkdf2_hmac("sha256", b"busy", b"%d" % seed, epochs * 1000)
        else:
            time.sleep(epochs / 1000)
        return Outcome((0.0,), "ok", time.monotonic() - start)


@dataclass(frozen=True)
class Either:
    """Both kinds through one executor, so that its workers stay; the seed's parity chooses."""

    def __call__(self, candidate: Any, epochs: int, seed: int) -> Outcome:
        """Odd seeds sleep."""
        return Task("sleep" if seed % 2 else "cpu")(candidate, epochs, seed)


def measure(rounds: int) -> dict[str, Any]:
    """Efficiencies by kind, seconds of a job, and executor."""
    load = os.getloadavg()[0]
    space, recipe = load_space("micro"), load_recipe("fashion_mnist/micro")
    row = sample(space, 1, Constraint("flops", max=4e5, min=1.5e5), seed=0)[0]
    candidate = space.candidate(row.tolist(), recipe, "busy")
    thousands = _thousands_a_second()
    seconds: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        executors: dict[str, Executor] = {
            name: stack.enter_context(execution.executor(Either(), workers))
            for name, execution, workers in (
                ("here", Execution(), 1),
                ("pool", Execution(), WORKERS),
                ("ray", Execution("ray", "local"), WORKERS),
            )
        }
        for executor in executors.values():
            _time(executor, dict.fromkeys(range(2 * WORKERS), (candidate, 300, 1)))
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for length, count in TASKS.items():
                for kind in ("cpu", "sleep"):
                    size = round(length * (1000 if kind == "sleep" else thousands))
                    jobs: dict[int, Job] = {i: (candidate, size, 2 * i + (kind == "sleep")) for i in range(count)}
                    times = seconds.setdefault(f"{kind}_{length:g}s", {name: [] for name in executors})
                    for name in rng.permutation(list(executors)).tolist():
                        times[name].append(_time(executors[name], jobs))
    found = {case: _efficiencies(times) for case, times in seconds.items()}
    return found | {
        "rounds": rounds,
        "load": {"before": round(load, 2), "after": round(os.getloadavg()[0], 2)},
        "targets": targets(found),
    }


def _efficiencies(times: Mapping[str, list[float]]) -> dict[str, Any]:
    rows: dict[str, Any] = {"seconds": {name: round(float(np.median(t)), 3) for name, t in times.items()}}
    for name in ("pool", "ray"):
        ratios = np.array(times["here"]) / (WORKERS * np.array(times[name]))
        median, low, high = (round(float(v), 4) for v in (np.median(ratios), ratios.min(), ratios.max()))
        rows[name] = {"efficiency": median, "low": low, "high": high}
    return rows


def targets(found: Mapping[str, Any]) -> dict[str, Any]:
    """The median efficiency of every case against the target."""
    return {
        f"{case}_{name}": {
            "value": rows[name]["efficiency"],
            "at_least": TARGET,
            "met": rows[name]["efficiency"] >= TARGET,
        }
        for case, rows in found.items()
        for name in ("pool", "ray")
    }


def _time(executor: Executor, jobs: Mapping[int, Job]) -> float:
    start = time.monotonic()
    assert sum(1 for _ in executor.run(jobs)) == len(jobs)
    return time.monotonic() - start


def _thousands_a_second() -> float:
    """Thousands of hashes that a processor makes in a second: the median of five tries."""
    tries = []
    for _ in range(5):
        start = time.process_time()
        Task("cpu")(None, 200, 0)
        tries.append(200 / (time.process_time() - start))
    return float(np.median(tries))


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    policy = {os.SCHED_RR: "real-time", os.SCHED_OTHER: "normal"}.get(os.sched_getscheduler(0), "other")
    result = Result.now(
        command=f"{command_of(NAME)} --rounds {options.rounds}",
        method=METHOD,
        versions=versions(["torch", "ray", "numpy"]) | host() | {"scheduling": policy},
        values=measure(options.rounds),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
