"""A plugin of pytest that prints a JSON line for the list of tests and for every test that ends.

`tests.py` reads the lines while the tests run, so that nothing is lost when the run is stopped.
"""

from __future__ import annotations

import json
from typing import Any

MARK = "@gpu-tests "  # begins a line of this plugin


def pytest_collection_finish(session: Any) -> None:
    """Print the names of all tests that will run."""
    _print({"collected": [item.nodeid for item in session.items]})


def pytest_collectreport(report: Any) -> None:
    """Print a file of tests that cannot be imported, as a test that failed."""
    if report.failed:
        _print({"test": report.nodeid, "outcome": "failed", "seconds": 0.0, "text": str(report.longrepr)})


def pytest_runtest_logreport(report: Any) -> None:
    """Print how a test ended: after its call, or earlier if it was skipped or could not start."""
    if report.when == "call" or report.outcome != "passed":
        row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        # A skipped test has (file, line, reason), a failed one the whole traceback.
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
        _print(row | {"text": text.removeprefix("Skipped: ")})


def _print(row: dict[str, Any]) -> None:
    # The line break before it ends a line of dots that pytest may have begun.
    print(f"\n{MARK}{json.dumps(row)}", flush=True)
