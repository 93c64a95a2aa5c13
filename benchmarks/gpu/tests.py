"""The tests that need a GPU, with their durations and the texts of failures.

All tests marked `gpu` run one after the other in one process. Without a GPU they are skipped, each with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.gpu.cases import GpuDevice, Seconds, card_facts, cut, one_line, summary_tables
from fbnetv3.benchmarks.gpu.recorder import MARK
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.device import find_device
from fbnetv3.errors import InputError

ROOT = Path(__file__).parents[2]  # the checkout: an installed package has no tests
RECORDER = "fbnetv3.benchmarks.gpu.recorder"
METHOD = (
    "pytest -m gpu: all tests in one process, one after the other. `cases` has outcome and seconds of every test in the order "
    "in which they ran, and the reason of a test that was skipped; `failed` has the texts of failures, cut in the middle, and "
    "`not_reached` the tests that did not run in the time."
)
SLOWEST = 10  # tests in the table of durations


def measure(seconds: Seconds = 100, device: GpuDevice = "auto", most_files: int | None = None) -> Iterator[Measured]:
    """Run the tests, and yield all outcomes so far after every test.

    Args:
        most_files: run the tests of so many files alone.
    """
    facts = card_facts(find_device(device))
    files = gpu_test_files(ROOT / "tests")[:most_files]
    # No cache in the checkout, and one process: several would share the memory of the card.
    options = ["-p", RECORDER, "-m", "gpu", "-n", "0", "-p", "no:cacheprovider", "-q", "--tb", "short"]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            values: Values = {"cases": {}, "failed": {}, "not_reached": [], "seconds": 0.0}
            for values in follow(process.stdout or ()):
                yield Measured(values, facts=facts)
                if values["seconds"] > seconds and values["not_reached"]:
                    return
            if text := unexpected_end(process.wait(), values):
                yield Measured(values | {"failed": values["failed"] | {"pytest": text}}, facts=facts)
        finally:
            process.kill()  # does nothing to a process that has ended


def unexpected_end(code: int, values: Values) -> str:
    """Say how pytest ended if it did not end by itself after the last test, such as by a crash of a library."""
    if code in (0, 1) and values["cases"] and not values["not_reached"]:
        return ""
    return f"pytest ended with exit code {code} and {len(values['not_reached'])} tests that had not run"


def gpu_test_files(folder: Path) -> list[Path]:
    """Return the files with tests marked `gpu`. Collecting all other files too would take most of a minute.

    Raises:
        InputError: there are none.
    """
    files = sorted(path for path in folder.rglob("test_*.py") if "pytest.mark.gpu" in path.read_text(encoding="utf-8"))
    if not files:
        raise InputError(f"no tests for a GPU in {folder}; run this in a checkout of the repository")
    return files


def follow(lines: Iterable[str]) -> Iterator[Values]:
    """Read the lines of pytest with the plugin `recorder`, and yield all that is known after every test that ended.

    Lines that are not the plugin's go to standard error, where a user sees them.
    """
    cases: dict[str, Any] = {}
    failed: dict[str, str] = {}
    waiting: list[str] = []
    begin = time.monotonic()
    for line in lines:
        if not line.startswith(MARK):
            print(line, end="", file=sys.stderr)
            continue
        row = json.loads(line.removeprefix(MARK))
        if "collected" in row:
            waiting = row["collected"]
            continue
        name, text = row["test"], cut(row["text"])
        waiting = [test for test in waiting if test != name]
        # An error after the test, in the removal of what it had set up, makes a test that had passed a failed one.
        cases[name] = {"outcome": row["outcome"], "seconds": row["seconds"]}
        if row["outcome"] == "failed":
            failed[name] = text
        elif row["outcome"] == "skipped":
            cases[name]["reason"] = text
        used = round(time.monotonic() - begin, 1)
        yield {"cases": dict(cases), "failed": dict(failed), "not_reached": list(waiting), "seconds": used}


def tables(result: Result) -> dict[str, Table]:
    """Return how many tests passed, why tests were skipped, and the longest ones."""
    cases = result.values["cases"]
    counts = Counter(case["outcome"] for case in cases.values())
    counts["not reached"] = len(result.values["not_reached"])
    found = {"outcomes": Table(("outcome", "tests"), tuple((name, str(count)) for name, count in counts.items()))}
    reasons = Counter(one_line(case["reason"]) for case in cases.values() if "reason" in case)
    if reasons:
        found["skipped"] = Table(("reason", "tests"), tuple((text, str(count)) for text, count in reasons.items()))
    slowest = sorted(cases, key=lambda name: -cases[name]["seconds"])[:SLOWEST]
    rows = ({"name": name, **cases[name]} for name in slowest)
    found["longest tests"] = Table.of({"test": "`{name}`", "outcome": "{outcome}", "seconds": "{seconds:.1f}"}, rows)
    return found | summary_tables(result)


BENCHMARK = Benchmark(
    "gpu_tests",
    METHOD,
    ("torch", "torchvision", "timm", "numpy", "pytest"),
    measure,
    tables=tables,
    quick={"most_files": 3},
)
