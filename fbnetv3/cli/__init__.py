"""The `fbnetv3` command: parses, calls, prints. Errors that a user can mend are one line and exit code 2."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Annotated, Any

import typer

import fbnetv3
from fbnetv3.cli import benchmark, compare, detection, recipes, resources, search, weights, zoo
from fbnetv3.cli.show import Json, out
from fbnetv3.cli.train import train
from fbnetv3.errors import InputError, Note

_as_ever = warnings.showwarning

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="FBNetV3: models, recipes and the NARS search.",
)
for command in (zoo.models, zoo.info, zoo.predict, zoo.export, train, detection.detect):
    app.command()(command)
search.app.command()(resources.budgets)
search.app.command()(resources.scale)
search.app.command()(compare.compare)
search.app.command("latency-table")(resources.latency_table)
search.app.command()(resources.regenerate)
app.add_typer(search.app, name="search")
app.add_typer(recipes.app, name="recipe")
app.add_typer(weights.app, name="weights")
app.add_typer(benchmark.app, name="benchmark")


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.showwarning = _show_warning
    try:
        app()
    except InputError as error:
        print(f"fbnetv3: {error}", file=sys.stderr)
        sys.exit(2)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """A note of this package in one line, without the line of code that gave it; other warnings as ever."""
    if issubclass(category, Note):
        print(f"fbnetv3: note: {message}", file=sys.stderr)
    else:
        _as_ever(message, category, *where, **more)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """FBNetV3: models, recipes and the NARS search."""
    if show:
        print(fbnetv3.__version__)
        raise typer.Exit


@app.command()
def reproduce(
    item: Annotated[str | None, typer.Argument(help="table1..table8 or figure1..figure7; all without it.")] = None,
    as_json: Json = False,
) -> None:
    """Show every number of the paper: quoted, measured here (where, when, how), or not run (why)."""
    from fbnetv3.benchmarks.paper import reproduce as harness

    if as_json:
        print(json.dumps(harness.as_data(item), indent=1))
    else:
        harness.render(out, item)


if __name__ == "__main__":
    main()
