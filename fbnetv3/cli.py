"""The `fbnetv3` command: parses, calls, prints. Errors that a user can mend are one line and exit code 2."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fbnetv3
from fbnetv3.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="FBNetV3: models, recipes and the NARS search.",
)
search_app = typer.Typer(no_args_is_help=True, help="NARS: search an architecture and its training recipe.")
recipe_app = typer.Typer(no_args_is_help=True, help="Training recipes.")
app.add_typer(search_app, name="search")
app.add_typer(recipe_app, name="recipe")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Trainings at a time; by default one a processor. Does not change what is found."),
]
out = Console()
err = Console(stderr=True)


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except InputError as error:
        print(f"fbnetv3: {error}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """FBNetV3: models, recipes and the NARS search."""
    if show:
        print(fbnetv3.__version__)
        raise typer.Exit


@app.command()
def models(as_json: Json = False) -> None:
    """List the networks of the paper with their published figures."""
    from fbnetv3.hub.entrypoints import released

    rows = [{"name": name, **figures} for name, figures in released()["models"].items()]
    columns = ("name", "resolution", "flops_m", "params_m", "acc1_released", "acc1_paper")
    _print_rows([{column: row[column] for column in columns} for row in rows], as_json)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A model name, or a pair file.")],
    num_classes: Annotated[int, typer.Option(min=1)] = 1000,
    in_chans: Annotated[int, typer.Option(min=1)] = 3,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the image; by default the network's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show FLOPs and parameters of a network in both conventions, by operator (one multiply-add = 1)."""
    from fbnetv3.arch import find_arch
    from fbnetv3.complexity import CONVENTIONS, cost

    if name.endswith((".yaml", ".yml")):
        from fbnetv3.search.pair import load_pair

        pair = load_pair(name)
        arch = pair.arch
        num_classes, in_chans = (
            pair.provenance.get("num_classes", num_classes),
            pair.provenance.get("in_chans", in_chans),
        )
    else:
        arch = find_arch(name)
    total = cost(arch, num_classes, in_chans, resolution)
    rows = [
        {
            "model": arch.name,
            "convention": convention,
            "flops": total.flops(convention),
            "params": total.params(convention),
        }
        for convention in CONVENTIONS
    ]
    _print_rows(rows, as_json)


@app.command()
def predict(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    weights: Annotated[Path, typer.Option(help="Weight file that `search run` or `train` wrote.")],
    pair: Annotated[Path | None, typer.Option(help="Pair file that the weights must belong to.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Classify a picture with a trained pair."""
    from fbnetv3.search.pair import load_pair
    from fbnetv3.training.picture import load_image
    from fbnetv3.training.weights import load_weights

    classifier = load_weights(weights, load_pair(pair).arch if pair else None)
    picture = load_image(image, classifier.in_chans, classifier.model.arch.resolution)
    rows = [{"class": name, "probability": round(p, 4)} for name, p in classifier.predict(picture)[:top]]
    _print_rows(rows, as_json)


@app.command()
def train(
    pair: Annotated[Path, typer.Option(help="Pair file: architecture and recipe.")],
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the files of the training; by default `retrained` beside the pair."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Image set; by default the pair's own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default that of the pair's own training.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train the pair of a pair file and measure it on the test images."""
    from fbnetv3.search.evaluator import ImageEvaluator
    from fbnetv3.search.pair import load_pair
    from fbnetv3.search.space import Candidate
    from fbnetv3.training.data import load_images
    from fbnetv3.training.loop import DivergedError, evaluate
    from fbnetv3.training.weights import save_weights

    given = load_pair(pair)
    images = load_images(data or given.provenance["data"])
    out_dir = out_dir or pair.parent / "retrained"
    seed = given.provenance.get("training_seed", given.seed) if seed is None else seed
    recipe = given.recipe
    with _progress_bar() as progress:
        try:
            trained = ImageEvaluator(images.name).train(
                Candidate(given.arch, recipe), recipe.epochs, seed, out_dir, resume=resume, progress=progress
            )
        except DivergedError as error:
            raise InputError(f"{error}; lower the learning rate") from None
    save_weights(out_dir / "weights.pt", given.arch, trained.model, images)
    row = {"val_acc1": trained.acc1[-1], "test_acc1": evaluate(trained.model, images, images.test), "seed": seed}
    _print_rows([row | {"weights": str(out_dir / "weights.pt")}], as_json)


@app.command()
def reproduce(
    item: Annotated[str | None, typer.Argument(help="table1..table8 or figure1..figure7; all without it.")] = None,
    as_json: Json = False,
) -> None:
    """Show every number of the paper: quoted, measured here (where, when, how), or not run (why)."""
    from fbnetv3.benchmarks import reproduce as harness

    if as_json:
        print(json.dumps(harness.as_data(item), indent=1))
    else:
        harness.render(out, item)


@recipe_app.command("list")
def recipe_list() -> None:
    """List the recipes of the package."""
    from fbnetv3.recipes import list_recipes

    for name in list_recipes():
        print(name)


@recipe_app.command("show")
def recipe_show(name: str, as_json: Json = False) -> None:
    """Show a recipe with the provenance of every value."""
    from fbnetv3.recipes import read_recipe_file

    file = read_recipe_file(name)
    rows = [
        {"field": key, "value": value, "provenance": file.sources[key][0], "source": file.sources[key][1]}
        if key in file.sources
        else {"field": key, "value": value, "provenance": "choice", "source": "default of the package"}
        for key, value in file.recipe.to_dict().items()
    ]
    if not as_json:
        print(f"{file.name}: {file.about} Expected: {file.expected}.")
    _print_rows(rows, as_json)


@search_app.command("run")
def search_run(
    out_dir: Annotated[Path, typer.Option("--out", help="New folder for the search.")],
    preset: Annotated[str, typer.Option(help="Name of a preset, or path of a YAML file.")] = "quickstart",
    seed: Annotated[int | None, typer.Option(min=0, help="By default the preset's.")] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="FLOPs budget, such as 800K or 1.2M; by default the preset's.")
    ] = None,
    max_params: Annotated[str | None, typer.Option(help="Parameter budget, instead of FLOPs.")] = None,
    flops_convention: Annotated[str | None, typer.Option(help="published or fvcore; by default the preset's.")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also run random search with as many trainings.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Search an architecture-recipe pair, train it, and write a report."""
    from fbnetv3.search.config import load_preset
    from fbnetv3.search.run import start

    config = load_preset(preset)
    changes: dict[str, Any] = {"baseline": baseline or config.baseline}
    if seed is not None:
        changes["seed"] = seed
    if max_flops and max_params:
        raise InputError(
            f"both --max-flops {max_flops} and --max-params {max_params}; a search has one budget: give one"
        )
    if max_flops or max_params or flops_convention:
        changes["constraint"] = _constraint(config, max_flops, max_params, flops_convention)
    with _progress_bar() as progress:
        found = start(config.replace(**changes), out_dir, workers, progress)
    _print_found(found, out_dir)


@search_app.command("resume")
def search_resume(folder: Annotated[Path, typer.Argument(help="Folder of a search.")], workers: Workers = None) -> None:
    """Go on with a search that was stopped or killed; it ends as if it had not been."""
    from fbnetv3.search.run import resume

    with _progress_bar() as progress:
        found = resume(folder, workers, progress)
    _print_found(found, folder)


def parse_count(text: str, option: str) -> float:
    """A count such as 450M, 1.2G, 800K or 1000000.

    Raises:
        InputError: no such count; the message names the option.
    """
    factor = {"K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:].upper())
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{option} is {text!r}; give a count such as 450M, 1.2G or 1000000")
    return value


def _constraint(config: Any, max_flops: str | None, max_params: str | None, convention: str | None) -> dict[str, Any]:
    """The preset's constraint with the user's budget; the window keeps its proportions."""
    before = config.constraint
    convention = convention or before.convention
    if max_params:
        return {
            "metric": "params",
            "convention": convention,
            "min": 0.0,
            "max": parse_count(max_params, "--max-params"),
        }
    high = parse_count(max_flops, "--max-flops") if max_flops else before.max
    return {"metric": "flops", "convention": convention, "min": before.min / before.max * high, "max": high}


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, lines elsewhere; Ctrl-C ends the command in one line, with exit code 130."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        if not err.is_terminal:
            yield _ProgressLines()
        else:
            with Progress(*columns, console=err) as bar:
                task = bar.add_task("starting", total=None)
                yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
    except KeyboardInterrupt:
        print("fbnetv3: stopped; what was finished is kept, resume to go on", file=sys.stderr)
        raise typer.Exit(130) from None


class _ProgressLines:
    """One line whenever the text changes, the running loss left out."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, done: int, total: int, text: str) -> None:
        head = text.split(", loss")[0]
        if head != self.last:
            print(f"[{done}/{total}] {head}", file=sys.stderr, flush=True)
            self.last = head


def _print_found(found: list[Any], folder: Path) -> None:
    from fbnetv3.search.report import METHODS
    from fbnetv3.search.run import PAIRS, REPORT

    for f in found:
        measured = f.pair.measured
        out.print(
            f"[bold]{METHODS[f.method]}[/]: {measured['acc1']:.2f}% on the test images after {measured['epochs']} epochs, "
            f"{f.flops / 1e6:.3f}M FLOPs, {f.params / 1e3:.1f}K params; {folder / PAIRS[f.method]}",
            highlight=False,
            soft_wrap=True,
        )
    out.print(f"report: {folder / REPORT}", highlight=False, soft_wrap=True)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, justify="right" if isinstance(rows[0][key], int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    out.print(table)


if __name__ == "__main__":
    main()
