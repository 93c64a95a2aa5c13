"""The quickstart of this version against that of an earlier version: is it better, or slower?

Both versions run the quickstart with the same seeds, one search at a time with two workers. It takes about twenty minutes
on two cores. `git worktree add ../before a42e58a` gives the checkout of an earlier version. There is no target: the
difference is reported with its interval.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fbnetv3.benchmarks.command import Seeds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import paired_difference
from fbnetv3.benchmarks.tables import Format, Table, difference
from fbnetv3.errors import InputError
from fbnetv3.progress import count_steps
from fbnetv3.schema import load_json
from fbnetv3.training.data.packaged import fashion_mnist

WORKERS = 2
METHOD = (
    "`fbnetv3 search run --preset quickstart --workers 2` of a checkout of commit `before` and of this version, for the same "
    "seeds: accuracy of the final pair on the {test} test images, which no search saw, and processor time of the "
    "command and its workers. `difference`: this version less the earlier one, by seed, mean and 95% interval of Student's "
    "t; `slower`: ratio of the medians of the processor times."
)
COLUMNS: dict[str, Format] = {
    "version": "{version}",
    "test top-1 (%)": "{mean:.2f}",
    "processor time, median (s)": "{seconds:.0f}",
    "seeds": "{n}",
    "minus the earlier one (95% interval)": "{gain}",
}


def measure(
    before: Annotated[Path, typer.Option(metavar="FOLDER", help="Checkout of the earlier version.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the searches. A search that is there is not run again.")
    ],
    seeds: Seeds = (0, 1, 2, 3, 4),
    after: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Checkout of the later version; by default the one of this command.")
    ] = Path(__file__).parents[2],
) -> Measured:
    """Run both versions with every seed."""
    commit = commit_of(before)  # read first: a folder that is no checkout fails before the searches
    checkouts = {"before": before.resolve(), "after": after.resolve()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    # A search takes minutes, and every one has its folder: a benchmark that was stopped continues with the missing ones.
    # The versions take turns, so that a slow hour of the machine meets both.
    with count_steps(len(seeds) * len(checkouts)) as step:
        for seed in seeds:
            for name, checkout in checkouts.items():
                step(f"seed {seed}, {name}")
                folder = out.resolve() / name / f"seed{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                rows[name].append(run_search(checkout, seed, folder))
    return Measured(summary(rows), {"test": f"{len(fashion_mnist().test):,}"}, {"before": commit})


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout.

    Raises:
        InputError: the folder is no git checkout.
    """
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(f"{checkout} is no checkout of the repository ({found.stderr.strip()})")
    return found.stdout.strip()


def run_search(checkout: Path, seed: int, folder: Path) -> dict[str, float]:
    """Run one search with the code of a checkout, and return its test accuracy in percent and its processor seconds."""
    record = folder / "measured.json"
    if not record.exists():
        command = [sys.executable, "-m", "fbnetv3", "search", "run", "--preset", "quickstart", "--seed", str(seed)]
        command += ["--workers", str(WORKERS), "--out", str(folder / "run")]
        # Children's time counts once they have ended: the command, and the workers that it waited for.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The working directory is another one than the checkout of this command: `-m` would find the package there.
        subprocess.run(
            command, check=True, capture_output=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(checkout)}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        accuracy = load_json(folder / "run" / "result.json", "result")["nars"]["test_acc1"]
        # Written last: a folder without it is a search that was stopped, and is run again.
        record.write_text(json.dumps({"test_acc1": accuracy, "cpu_seconds": round(seconds, 1)}))
    found: dict[str, float] = load_json(record, "record")
    return found


def summary(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> Values:
    """Return the values of the result file, from what `run_search` measured by seed with the versions before and after."""
    accuracy = {name: [row["test_acc1"] for row in found] for name, found in rows.items()}
    seconds = {name: [row["cpu_seconds"] for row in found] for name, found in rows.items()}
    return {
        "test_acc1": accuracy,
        "mean": {name: round(float(np.mean(values)), 3) for name, values in accuracy.items()},
        "difference": paired_difference(accuracy["after"], accuracy["before"]).rounded(3),
        "cpu_seconds": seconds,
        "slower": round(float(np.median(seconds["after"]) / np.median(seconds["before"])), 3),
    }


def tables(result: Result) -> dict[str, Table]:
    """Return both versions, and the difference of the later one."""
    values = result.values
    versions = {"before": f"commit {result.versions['before']}", "after": f"the version of {result.date}"}
    rows = (
        {
            "version": version,
            "mean": values["mean"][name],
            "seconds": float(np.median(values["cpu_seconds"][name])),
            "n": len(values["test_acc1"][name]),
            "gain": difference(values["difference"]) if name == "after" else "-",
        }
        for name, version in versions.items()
    )
    return {"the quickstart of two versions": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark("quickstart", METHOD, ("torch", "numpy", "scipy"), measure, tables=tables)
