"""Result files in `results/`: the only place where a measured number is typed, each with when and how."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, check_keys
from fbnetv3.files import write_atomically

SCHEMA = 1
RESULTS = Path(__file__).with_name("results")


def command_of(name: str) -> str:
    """Return the command that runs the benchmark whose result file is called `name`."""
    return f"fbnetv3 benchmark {name.replace('_', '-')}"


@dataclass(frozen=True)
class Result:
    """One run of a benchmark.

    `date` is ISO (UTC), `command` reruns it, `method` says what was measured and how, `versions` of what computed it,
    `values` is nested by names with numbers as leaves.
    """

    date: str
    command: str
    method: str
    versions: dict[str, str]
    values: dict[str, Any]
    schema: int = SCHEMA

    @classmethod
    def now(cls, command: str, method: str, versions: dict[str, str], values: dict[str, Any]) -> Result:
        """The result of a run that ends today."""
        return cls(datetime.now(timezone.utc).date().isoformat(), command, method, versions, values)

    def number(self, path: str) -> int | float:
        """The number at a dotted path of `values`.

        Raises:
            InputError: nothing there, or no number.
        """
        value: Any = self.values
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if type(value) not in (int, float):
            raise InputError(f"result of {self.command!r}: {path!r} is {value!r}; allowed: a number")
        return value  # type: ignore[no-any-return]


def load_result(name: str, folder: Path = RESULTS) -> Result:
    """Read `<folder>/<name>.json`.

    Raises:
        InputError: no such file, unknown or missing key, wrong type, or a schema that this version does not read.
    """
    where = f"results/{name}.json"
    try:
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: no such file; run: {command_of(name)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read: {error}") from error
    result = Result(**check_keys(data, Result, where))
    for key, kind in (("date", str), ("command", str), ("method", str), ("versions", dict), ("values", dict)):
        if type(getattr(result, key)) is not kind or not getattr(result, key):
            raise InputError(f"{where}: {key} is {getattr(result, key)!r}; allowed: a non-empty {kind.__name__}")
    try:
        date.fromisoformat(result.date)
    except ValueError:
        raise InputError(f"{where}: date is {result.date!r}; allowed: YYYY-MM-DD") from None
    if result.schema != SCHEMA:
        raise InputError(f"{where}: schema is {result.schema!r}; this version reads {SCHEMA}: update fbnetv3")
    return result


def write_result(name: str, result: Result, folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json` atomically; returns its path."""
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")
    return path


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of installed packages, for a result file."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def host() -> dict[str, str]:
    """What a result file with times says of the machine, beside versions."""
    return {"machine": platform.machine(), "cpus": str(os.cpu_count())}
