"""Has a change of the search made the quickstart better, or slower? This version against an earlier checkout.

    git worktree add ../before a42e58a
    fbnetv3 benchmark quickstart --before ../before --out DIR

runs the quickstart with both for five seeds, one search at a time with two workers (some twenty minutes on two cores), and
writes `results/quickstart.json`. What is in DIR already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.benchmarks.seeds import paired_difference

NAME = "quickstart"
SEEDS = tuple(range(5))
WORKERS = 2
METHOD = (
    "`fbnetv3 search run --preset quickstart --workers 2` of a checkout of commit `before` and of this version, for the same "
    "seeds: accuracy of the final pair on the 2,000 test images, which no search saw, and processor time of the "
    "command and its workers. `difference`: this version less the earlier one, by seed, mean and 95% interval of Student's "
    "t; `slower`: ratio of the medians of the processor times."
)


def run_search(checkout: Path, seed: int, folder: Path) -> dict[str, float]:
    """One search by the code of a checkout: test accuracy in percent, and seconds of the processors."""
    record = folder / "measured.json"
    if not record.exists():
        command = [sys.executable, "-m", "fbnetv3", "search", "run", "--preset", "quickstart", "--seed", str(seed)]
        command += ["--workers", str(WORKERS), "--out", str(folder / "run")]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, check=True, capture_output=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(checkout)}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        accuracy = json.loads((folder / "run" / "result.json").read_text())["nars"]["test_acc1"]
        record.write_text(json.dumps({"test_acc1": accuracy, "cpu_seconds": round(seconds, 1)}))
    found: dict[str, float] = json.loads(record.read_text())
    return found


def summary(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The values of the result file, from what `run_search` measured by seed for `before` and `after`."""
    accuracy = {name: [row["test_acc1"] for row in found] for name, found in rows.items()}
    seconds = {name: [row["cpu_seconds"] for row in found] for name, found in rows.items()}
    difference = asdict(paired_difference(accuracy["after"], accuracy["before"]))
    return {
        "test_acc1": accuracy,
        "mean": {name: round(float(np.mean(values)), 3) for name, values in accuracy.items()},
        "difference": {key: round(value, 3) for key, value in difference.items()},
        "cpu_seconds": seconds,
        "slower": round(float(np.median(seconds["after"]) / np.median(seconds["before"])), 3),
    }


def commit_of(checkout: Path) -> str:
    """The commit that a checkout stands at."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier version")
    parser.add_argument("--after", type=Path, default=Path(__file__).parents[2], help="checkout of the later one: this")
    parser.add_argument("--out", type=Path, required=True, help="folder for the searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args(argv)
    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for seed in options.seeds:
        for name, checkout in checkouts.items():
            folder = options.out.resolve() / name / f"seed{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            rows[name].append(run_search(checkout, seed, folder))
            print(seed, name, rows[name][-1], flush=True)
    before = commit_of(checkouts["before"])
    result = Result.now(
        command=f"{command_of(NAME)} --before {before} --out DIR",
        method=METHOD,
        versions=versions(["torch", "numpy", "scipy"]) | host() | {"before": before},
        values=summary(rows),
    )
    write_result(NAME, result, RESULTS)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
