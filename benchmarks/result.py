"""Result files in `results/`: the only place where a measured number is written, with its date, command and method."""

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
from fbnetv3.schema import load_json

SCHEMA = 1
RESULTS = Path(__file__).with_name("results")


def command_of(name: str) -> str:
    """Return the command of the benchmark whose result file is called `name`."""
    return f"fbnetv3 benchmark {name.replace('_', '-')}"


@dataclass(frozen=True)
class Result:
    """The result of one run of a benchmark.

    Attributes:
        date: the day of the run (UTC), as YYYY-MM-DD.
        command: the command that repeats it.
        method: what was measured and how.
        versions: versions of the packages, and facts about the machine.
        values: the measured values, nested by names.
        schema: version of the file format.
    """

    date: str
    command: str
    method: str
    versions: dict[str, str]
    values: dict[str, Any]
    schema: int = SCHEMA

    @classmethod
    def now(cls, command: str, method: str, versions: dict[str, str], values: dict[str, Any]) -> Result:
        """Return the result of a run that ends today."""
        return cls(datetime.now(timezone.utc).date().isoformat(), command, method, versions, values)

    def number(self, path: str) -> int | float:
        """Return the number at a dotted path in `values`.

        Raises:
            InputError: there is nothing at the path, or no number.
        """
        value: Any = self.values
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        # bool is a kind of int in Python, but True is no number here.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"result of {self.command!r}: {path!r} is {value!r}; allowed: a number")
        return value


def load_result(name: str, folder: Path = RESULTS) -> Result:
    """Read `<folder>/<name>.json`.

    Raises:
        InputError: the file does not exist, a key is unknown or missing, a value has the wrong type, or this version does not
            read the schema.
    """
    where = f"results/{name}.json"
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError(f"{where}: no such file; `fbnetv3 benchmark --help` lists what writes result files")
    data = load_json(path, "result file")
    result = Result(**check_keys(data, Result, where))
    # An empty method or command would be a number that nobody can repeat.
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
    """Write `<folder>/<name>.json`, complete or not at all, and return its path."""
    path = folder / f"{name}.json"
    # NaN is not JSON: other programs could not read the file.
    write_atomically(path, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")
    return path


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages."""
    # A package that is not installed was not used. It is recorded too, so that nobody has to guess.
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def host() -> dict[str, str]:
    """Return what a result file says about the machine."""
    return {"machine": platform.machine(), "cpus": str(os.cpu_count())}


def device_facts(device: str) -> dict[str, str]:
    """Return what a result file says about the device of a run, if that is not the CPU."""
    from fbnetv3.device import device_words  # late: reading a result needs no torch

    return {} if device == "cpu" else {"device": device_words(device)}
