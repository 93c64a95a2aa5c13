"""`fbnetv3 search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.cli.show import out, progress_bar
from fbnetv3.errors import InputError

app = typer.Typer(no_args_is_help=True, help="NARS: search an architecture and its training recipe.")

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Trainings at a time; by default one a processor. Does not change what is found."),
]


@app.command("run")
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
    with progress_bar() as progress:
        found = start(config.replace(**changes), out_dir, workers, progress)
    _print_found(found, out_dir)


@app.command("resume")
def search_resume(folder: Annotated[Path, typer.Argument(help="Folder of a search.")], workers: Workers = None) -> None:
    """Go on with a search that was stopped or killed; it ends as if it had not been."""
    from fbnetv3.search.run import resume

    with progress_bar() as progress:
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
