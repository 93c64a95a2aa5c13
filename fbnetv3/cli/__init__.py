"""The `fbnetv3` command. It parses, calls and prints. A mistake of the user is one line on stderr and exit code 2."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

import fbnetv3
from fbnetv3.benchmarks.catalogue import COMPARE
from fbnetv3.cli import benchmark, collect, detection, networks, recipes, search, spaces, tables, watch, weights
from fbnetv3.cli.evaluate import check_data, evaluate
from fbnetv3.cli.make_zoo import make_zoo
from fbnetv3.cli.processes import join_processes
from fbnetv3.cli.show import Json, out
from fbnetv3.cli.train import train
from fbnetv3.errors import InputError, Note
from fbnetv3.schema import dump_json

NETWORKS, TRAINING, PAPER = "Use a network", "Train and search", "The paper"

_show_other_warning = warnings.showwarning

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (networks.models, networks.info, networks.predict, detection.detect, networks.export, networks.scale):
    app.command(rich_help_panel=NETWORKS)(command)
app.add_typer(weights.app, name="weights", rich_help_panel=NETWORKS)
app.command(rich_help_panel=TRAINING)(train)
app.command(rich_help_panel=TRAINING)(evaluate)
app.command("check-data", rich_help_panel=TRAINING)(check_data)
app.add_typer(recipes.app, name="recipe", rich_help_panel=TRAINING)
app.add_typer(search.app, name="search", rich_help_panel=TRAINING)
app.command(rich_help_panel=TRAINING)(make_zoo)
search.app.command("status")(watch.status)
search.app.command("watch")(watch.watch)
search.app.command("top")(watch.top)
search.app.command("diff")(watch.diff)
search.app.command("audit")(spaces.audit)
search.app.command("latency-table")(spaces.latency_table)
search.app.command("latency-kit")(spaces.latency_kit)
search.app.command("latency-import")(spaces.latency_import)
search.app.command("init")(spaces.init)
search.app.add_typer(tables.app, name="table")
search.app.command("collect")(collect.collect)
search.app.command("compare", cls=benchmark.lazy(COMPARE), help=COMPARE.about)(benchmark.placeholder)


def main() -> None:
    """Run the command. Every error of the user looks the same, whether typer or this package found it."""
    for stream in (sys.stdout, sys.stderr):
        # Names of classes and files may have characters that the terminal lacks: \\xfc is better than a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.showwarning = _show_warning
    try:
        _refuse_empty(sys.argv[1:])
        join_processes(sys.argv[1:])
        # In its standalone mode, typer would draw its own errors as a box.
        sys.exit(app(prog_name="fbnetv3", standalone_mode=False) or 0)
    except InputError as error:
        _fail(str(error))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message()
        if context is None or not message:  # typer has printed the help of a command without arguments
            _fail(message)
        stop = "" if message.endswith((".", "?")) else "."
        _fail(f"{message}{stop} `{context.command_path} --help` shows what it takes")
    except RuntimeError as error:
        # By name: torch takes seconds to import, and many commands do not need it.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        reason = str(error).partition(". ")[0]
        _fail(
            f"the device has too little free memory ({reason}); free some of it, give smaller images, or give --device cpu"
        )


def _refuse_empty(words: list[str]) -> None:
    """Refuse empty texts, which a script gives where a variable is not set. Options would take them for their default."""
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        if word.startswith("--") and equals and not value.strip():
            raise InputError(f"{name} is empty; give a value, or leave the option out")
        if not word.strip():
            what = before if before.startswith("-") else "an argument"
            raise InputError(f"{what} is empty; give a value{', or leave the option out' if what == before else ''}")


def _fail(message: str) -> NoReturn:
    if message:
        print(f"fbnetv3: {message}", file=sys.stderr)
    sys.exit(2)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show a note of this package in one line, without the line of code that gave it. Other warnings look as usual."""
    if issubclass(category, Note):
        print(f"fbnetv3: note: {message}", file=sys.stderr)
    else:
        _show_other_warning(message, category, *where, **more)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """FBNetV3: networks with released weights, training recipes, and the joint search of both (NARS)."""
    if show:
        print(fbnetv3.__version__)
        raise typer.Exit


@app.command(rich_help_panel=PAPER)
def reproduce(
    item: Annotated[
        str | None, typer.Argument(help="table1 to table8, or figure1 to figure7. The default is all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every number of the paper: quoted, measured here (where, when, how), or not run (why)."""
    from fbnetv3.benchmarks.paper import reproduce as harness

    if as_json:
        print(dump_json(harness.as_data(item)))
    else:
        harness.render(out, item)


app.add_typer(benchmark.app, name="benchmark", rich_help_panel=PAPER)

if __name__ == "__main__":
    main()
