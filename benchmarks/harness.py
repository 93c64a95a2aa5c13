"""What all benchmarks share: settings, targets, the result file and its tables.

A benchmark is one module that ends with `BENCHMARK = Benchmark(...)`. `catalogue.py` lists the modules, and `command.py` makes
a command of each.
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typer.models import ArgumentInfo, OptionInfo

from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.benchmarks.tables import Table, number
from fbnetv3.errors import InputError

Values = dict[str, Any]
Rule = Literal["at_least", "at_most", "above", "below"]
TARGET_COLUMNS = {"target": "`{name}`", "asked for": "{asked}", "measured": "{value}", "result": "{result}"}


@dataclass(frozen=True)
class Target:
    """What a benchmark aims at: a measured value and the limit that it is held to."""

    value: float
    rule: Rule
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value keeps the limit."""
        value, limit = self.value, self.limit
        # NumPy's comparisons give NumPy's bools, which JSON does not know.
        rules = {"at_least": value >= limit, "at_most": value <= limit, "above": value > limit, "below": value < limit}
        return bool(rules[self.rule])

    def as_dict(self) -> Values:
        """Return the target as a result file holds it."""
        return {"value": self.value, self.rule: self.limit, "met": self.met}


def record_targets(targets: Mapping[str, Target]) -> Values:
    """Return the targets as most result files hold them: by name, below the key `targets`."""
    return {"targets": {name: target.as_dict() for name, target in targets.items()}}


def target_table(targets: Mapping[str, Target]) -> Table:
    """Return a table of the targets: what was asked for, what was measured, and whether the target is met."""
    return Table.of(
        TARGET_COLUMNS,
        (
            {
                "name": name,
                "asked": f"{target.rule.replace('_', ' ')} {number(target.limit)}",
                "value": number(target.value),
                "result": "met" if target.met else "missed",
            }
            for name, target in targets.items()
        ),
    )


@dataclass(frozen=True)
class Measured:
    """What one run of a benchmark gives.

    Attributes:
        values: the values of the result file, without the targets.
        words: what fills the braces in the benchmark's `method`.
        facts: what the result file says about this run beside the versions of packages, such as the processor.
    """

    values: Values
    words: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: what it measures, its result file, its targets and its tables.

    Attributes:
        name: name of the result file. The command has the same name with dashes.
        method: what was measured and how, for the result file. `Measured.words` fills its braces.
        packages: the packages whose versions the result file records.
        measure: measures with the given settings. Its parameters with an annotation of typer are the options of the command.
            It may yield all that it has measured so far, again and again: then the result file always has the last of it, also
            after a run that was stopped.
        targets: makes the targets of given values, by name.
        record: makes the entries of the result file of the targets.
        tables: makes the tables of a result, by title. Without it the command prints JSON.
        as_json: what the command prints with `--json`; by default all values.
        quick: the settings of a rehearsal. With it the command has the option `--quick`.
        plot: draws a result as a PNG. With it the command has the option `--plot`.
        file: the result file of a run with given settings; by default `results/NAME.json`.
        environment: environment variables that a run needs, with the value that they must have.
        depends_on_machine: whether the values differ between machines. Then the result file names the machine.
        writes: options of `measure` that name files to write.
        command: the command, where it is not `fbnetv3 benchmark NAME`.
    """

    name: str
    method: str
    packages: Sequence[str]
    measure: Callable[..., Measured | Iterator[Measured]]
    targets: Callable[[Values], dict[str, Target]] | None = None
    record: Callable[[Mapping[str, Target]], Values] = record_targets
    tables: Callable[[Result], Mapping[str, Table]] | None = None
    as_json: Callable[[Result], object] = lambda result: result.values
    quick: Mapping[str, Any] | None = None
    plot: Callable[[Result], bytes] | None = None
    file: Callable[[Mapping[str, Any]], Path] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    depends_on_machine: bool = True
    writes: tuple[str, ...] = ()
    command: str = ""

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of `measure` by name, with resolved annotations."""
        # Annotations are texts with postponed evaluation. Resolved, they have what typer needs to know.
        hints = typing.get_type_hints(self.measure, include_extras=True)
        found = inspect.signature(self.measure).parameters
        return {name: parameter.replace(annotation=hints[name]) for name, parameter in found.items()}

    @property
    def options(self) -> dict[str, OptionInfo | ArgumentInfo]:
        """What typer knows of the parameters of `measure` that are options or arguments of the command."""
        kinds = (OptionInfo, ArgumentInfo)
        extras = {name: getattr(p.annotation, "__metadata__", ()) for name, p in self.parameters.items()}
        return {name: entry for name, found in extras.items() for entry in found if isinstance(entry, kinds)}

    def settings(self, given: Mapping[str, Any], quick: bool = False) -> Values:
        """Return the arguments of `measure`: its defaults, over them those of a rehearsal, and over both what was given."""
        defaults = {name: p.default for name, p in self.parameters.items() if p.default is not p.empty}
        return defaults | (dict(self.quick or {}) if quick else {}) | dict(given)

    def result_file(self, settings: Mapping[str, Any]) -> Path:
        """Return the result file of a run with these settings."""
        return RESULTS / f"{self.name}.json" if self.file is None else self.file(settings)

    def written_file(self, settings: Mapping[str, Any], write_to: Path | None, quick: bool) -> Path | None:
        """Return the file that `run` writes; None for a rehearsal, which has no result file by default."""
        path = write_to or (None if quick else self.result_file(settings))
        return path and path.with_suffix(".json")

    def new_files(self, settings: Mapping[str, Any], write_to: Path | None, quick: bool) -> list[Path]:
        """Return the files that a run writes, except for those in the folder of the run, which it continues."""
        files = [self.written_file(settings, write_to, quick), *(settings.get(name) for name in self.writes)]
        return [file for file in files if file is not None and settings.get("out") not in file.parents]

    def written(self, settings: Mapping[str, Any], quick: bool = False) -> str:
        """Return the command that repeats a run: it has the options that differ from their defaults.

        Places of files and folders are left out, because they mean nothing on another machine. A file is written by its name,
        a folder as the metavar of its option.
        """
        usual, words = self.settings({}, quick), [f"{key}={value}" for key, value in self.environment.items()]
        words += [self.command or command_of(self.name), *["--quick"] * quick]
        for name, info in self.options.items():
            value = settings[name]
            # What equals its default is left out: the command stays short, and says what was special about the run.
            if value is None or (name in usual and value == usual[name]):
                continue
            if isinstance(info, OptionInfo):
                words.append(next(iter(info.param_decls or ()), f"--{name.replace('_', '-')}"))
            if value is not True:  # a flag has no value
                parts = value if isinstance(value, tuple) else (value,)
                words += [_quoted(_without_place(part, info.metavar or "FOLDER")) for part in parts]
        return " ".join(words)

    def run(self, *, write_to: Path | None = None, quick: bool = False, **given: Any) -> Result:
        """Measure, and write the result file.

        Args:
            write_to: the result file; by default `result_file`. A rehearsal has no default, so that it overwrites no measured
                numbers.
            quick: rehearse, with the settings of `quick`.
            given: arguments of `measure` that differ from its defaults.

        Raises:
            InputError: an environment variable has another value than the benchmark needs.
        """
        settings = self.settings(given, quick)
        # Too late to set it here: libraries have read the variable when they were loaded.
        for key, value in self.environment.items():
            if os.environ.get(key) != value:
                found = os.environ.get(key, "not set")
                raise InputError(f"{key} is {found}; run this benchmark as: {self.written(settings, quick)}")
        path = self.written_file(settings, write_to, quick)
        measured = self.measure(**settings)
        result = None
        for so_far in [measured] if isinstance(measured, Measured) else measured:
            result = self._result(so_far, settings, quick)
            if path is not None and is_first_process():
                write_result(path.stem, result, path.parent)
        if result is None:
            raise InputError(f"{self.name} measured nothing; give it more time")
        return result

    def _result(self, measured: Measured, settings: Mapping[str, Any], quick: bool) -> Result:
        """Return what was measured as the result file has it."""
        # Targets are computed from the values alone, so that a test can do the same with a committed file.
        values = measured.values | (self.record(self.targets(measured.values)) if self.targets else {})
        return Result.now(
            command=self.written(settings, quick),
            method=self.method.format(**measured.words),
            versions=versions(self.packages) | (host() if self.depends_on_machine else {}) | dict(measured.facts),
            values=values,
        )

    def all_tables(self, result: Result) -> dict[str, Table]:
        """Return the tables of a result by title, that of the targets last."""
        tables = dict(self.tables(result)) if self.tables else {}
        # Computed again and not read: the three layouts of targets in the files do not matter here.
        if self.targets:
            tables["targets"] = target_table(self.targets(result.values))
        return tables


def is_first_process() -> bool:
    """Whether this process is the one that writes and prints; torchrun starts several."""
    return os.environ.get("RANK", "0") == "0"


def _quoted(word: str) -> str:
    """Return a word as a shell needs it."""
    return f'"{word}"' if " " in word else word


def _without_place(value: Any, folder: str) -> str:
    """Return a value as a recorded command has it: `memory:/tmp/images` is `memory:FOLDER`, `/tmp/a.json` is `a.json`."""
    # Data may have a kind before the place: torchvision:cifar10:/data.
    kind, colon, place = str(value).rpartition(":")
    path = Path(place).expanduser()
    if path.is_dir():
        return f"{kind}{colon}{folder}"
    return path.name if isinstance(value, Path) or path.is_file() else str(value)
