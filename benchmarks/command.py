"""The command of a benchmark: the options of its function `measure`, and the options that all benchmarks share."""

from __future__ import annotations

import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from fbnetv3.benchmarks.harness import Benchmark, is_first_process
from fbnetv3.benchmarks.result import Result, command_of, load_result
from fbnetv3.errors import available
from fbnetv3.files import refuse_to_overwrite, write_atomically
from fbnetv3.schema import dump_json

Rounds = Annotated[int, typer.Option(min=1, help="Number of interleaved rounds.")]
Seeds = Annotated[tuple[int, ...], typer.Option(metavar="N ...", help="Seeds to run.")]
Threads = Annotated[int, typer.Option(min=1, help="Number of threads that torch computes with.")]
Device = Annotated[str, typer.Option(help="Device to compute on: auto (a GPU if there is one), cpu, cuda or cuda:N.")]
Runs = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder of the trainings. The same command continues what was stopped.")
]

# The options that commands share, with their defaults, by the name of the parameter.
_JSON = (Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")], False)
_SHOW = (Annotated[bool, typer.Option("--show", help="Measure nothing. Print the result file that exists.")], False)
_OUT = (
    Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Result file; by default the package's own.")],
    None,
)
_PLOT = (
    Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="PNG file to draw the result into.")],
    None,
)
_QUICK = (
    Annotated[
        bool,
        typer.Option(
            "--quick", help="Rehearse in short time; the numbers mean nothing. A file is written only with --out."
        ),
    ],
    False,
)


_OVERWRITE = (Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")], False)


class BenchmarkCommand(TyperCommand):
    """A command whose list options take several values after one name: `--seeds 0 1 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, after every value of a list option got the name of its option, as typer wants it."""
        # typer would refuse the command before anything here could see that nothing is to be measured.
        missing = [parameter for parameter in self.params if parameter.required and not set(parameter.opts) & set(args)]
        if "--show" in args or ("--plot" in args and missing):
            # Nothing is measured, so nothing that only a measurement needs is required.
            args = ["--show", *(word for word in args if word != "--show")]
            for parameter in missing:
                parameter.required = False
        lists = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        return super().parse_args(ctx, _repeat_names(args, lists))


def make_command(benchmark: Benchmark) -> Any:
    """Return the command that measures, writes the result file and prints it."""
    # A typer app with one command is that command: typer has no function that makes a command of a function alone.
    app = typer.Typer(add_completion=False)
    name = (benchmark.command or command_of(benchmark.name)).split()[-1]
    app.command(name, cls=BenchmarkCommand, help=_about(benchmark))(_callback(benchmark))
    return typer.main.get_command(app)


def print_result(benchmark: Benchmark, result: Result, as_json: bool) -> None:
    """Print the tables of a result, or JSON."""
    if as_json or benchmark.tables is None:
        print(dump_json(benchmark.as_json(result)))
        return
    # A pipe has no width: there tables are wide, so that their lines can be searched.
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    console.print(f"{result.date}, {result.command}", markup=False, highlight=False, soft_wrap=True)
    for title, table in benchmark.all_tables(result).items():
        console.print()
        console.print(table.rich(title))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return the parser of an option that allows these texts. Its error names the nearest one."""

    def parse(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is unknown; {available(text, choices)}")
        return text

    return parse


def _about(benchmark: Benchmark) -> str:
    """Return the docstring of the benchmark's module, without the line breaks within paragraphs, which typer would keep."""
    paragraphs = (inspect.getdoc(sys.modules[benchmark.measure.__module__]) or "").split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def _callback(benchmark: Benchmark) -> Callable[..., None]:
    """Return the function that typer makes the command of: its signature has the options of `measure` and the shared ones."""
    shared: dict[str, tuple[Any, Any]] = {"as_json": _JSON, "show": _SHOW, "overwrite": _OVERWRITE}
    if "out" not in benchmark.options:
        shared["out"] = _OUT
    if benchmark.quick is not None:
        shared["quick"] = _QUICK
    if benchmark.plot is not None:
        shared["plot"] = _PLOT

    def call(context: typer.Context, **words: Any) -> None:
        common = {name: words.pop(name) for name in shared}
        # The defaults are left to `settings`: those of a rehearsal are others than typer knows.
        given = {name: _as_tuple(value) for name, value in words.items() if _is_given(context, name)}
        out, plot, quick = common.get("out"), common.get("plot"), common.get("quick", False)
        # Before anything is measured. The package's own result files are measurements too.
        new = [] if common["show"] else benchmark.new_files(benchmark.settings(given, quick), out, quick)
        for file in (*new, *([] if plot is None else [plot])):
            refuse_to_overwrite(file, common["overwrite"])
        try:
            if common["show"]:
                path = out or benchmark.result_file(benchmark.settings(given))
                result = load_result(path.stem, path.parent)
            else:
                result = benchmark.run(write_to=out, quick=quick, **given)
        except KeyboardInterrupt:
            resumes = bool({"out", "runs"} & set(benchmark.options))
            kept = "; what was finished is kept, and the same command continues" if resumes else ""
            print(f"fbnetv3: stopped{kept}", file=sys.stderr)
            raise typer.Exit(130) from None
        if is_first_process():
            print_result(benchmark, result, common["as_json"])
            if plot is not None and benchmark.plot is not None:
                write_atomically(plot, benchmark.plot(result))

    # typer reads the signature of the function, so the options are written into it.
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    for name in benchmark.options:
        parameter = benchmark.parameters[name]
        # typer knows lists, `measure` has tuples: a default that is a list could be changed by accident.
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        parameters.append(inspect.Parameter(name, keyword, annotation=_as_list(parameter.annotation), default=default))
    for name, (annotation, default) in shared.items():
        parameters.append(inspect.Parameter(name, keyword, annotation=annotation, default=default))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _as_list(annotation: Any) -> Any:
    """Return the annotation as typer reads it: with a list where `measure` takes a tuple of any length."""
    kind, *extras = typing.get_args(annotation)
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and inner[1:] == (...,):
        kind = types.GenericAlias(list, inner[0])
    # Through a variable, because only types may stand in the brackets of Annotated itself.
    annotated: Any = Annotated
    parts = (kind, *extras)
    return annotated[parts]


def _as_tuple(value: Any) -> Any:
    """Return a list as a tuple, which is what `measure` takes, and any other value as it is."""
    return tuple(value) if isinstance(value, list) else value


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether the option is on the command line."""
    # typer fills in its defaults. A value that equals the default may still be given, and then goes before a rehearsal's.
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _repeat_names(args: list[str], lists: set[str]) -> list[str]:
    """Return `--seeds 0 1` as `--seeds 0 --seeds 1`, for the options `lists`."""
    words: list[str] = []
    name, count = "", 0
    for word in args:
        if word in lists:
            name, count = word, 0
        elif word.startswith("-") and not word[1:].isdecimal():  # -1 is a value, not an option
            name = ""
        elif name:
            words += [name] * bool(count)  # the first value has its name already
            count += 1
        words.append(word)
    return words
