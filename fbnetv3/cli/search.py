"""`fbnetv3 search`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.cli.show import Json, out, print_rows, progress_bar
from fbnetv3.errors import InputError

app = typer.Typer(no_args_is_help=True, help="NARS: search an architecture and its training recipe.")

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Trainings at a time; by default one a processor. Does not change what is found."),
]
ExecutorKind = Annotated[str, typer.Option("--executor", help="processes (of this machine) or ray.")]
RayAddress = Annotated[
    str | None, typer.Option(help="HOST:PORT of a Ray cluster, auto (this machine's), local (a new one).")
]
Cpus = Annotated[
    float | None, typer.Option("--cpus-per-trial", min=0, help="That Ray reserves; by default one a process.")
]
Gpus = Annotated[float | None, typer.Option("--gpus-per-trial", min=0, help="That Ray reserves; by default none.")]


@app.command("run")
def search_run(
    out_dir: Annotated[Path, typer.Option("--out", help="New folder for the search.")],
    preset: Annotated[str, typer.Option(help="Name of a preset, or path of a YAML file.")] = "quickstart",
    seed: Annotated[int | None, typer.Option(min=0, help="By default the preset's.")] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="FLOPs budget, such as 800K or 1.2M; by default the preset's.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Parameter budget; without --max-flops it replaces the preset's FLOPs budget.")
    ] = None,
    max_latency: Annotated[float | None, typer.Option(help="Milliseconds, further to the other budgets.")] = None,
    latency_table: Annotated[
        Path | None, typer.Option(help="File of `fbnetv3 search latency-table`, for --max-latency.")
    ] = None,
    flops_convention: Annotated[str | None, typer.Option(help="published or fvcore; by default the preset's.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="What candidates are trained on, as for `fbnetv3 train`; by default the preset's."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Of trainings: cpu, cuda, cuda:N; by default the preset's.")
    ] = None,
    readers: Annotated[int | None, typer.Option(min=0, help="Processes of every training that read pictures.")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also run random search with as many trainings.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes-per-trial", min=1, help="Train each candidate by torchrun; changes results."),
    ] = None,
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Search an architecture-recipe pair, train it, and write a report."""
    from fbnetv3.search.execution.executor import Execution
    from fbnetv3.search.nars.config import load_preset
    from fbnetv3.search.runs.run import start

    execution, config = Execution(executor, ray_address, cpus, gpus), load_preset(preset)
    changes: dict[str, Any] = {"baseline": baseline or config.baseline}
    given = {"seed": seed, "data": data, "device": device, "readers": readers, "processes": processes}
    changes |= {key: value for key, value in given.items() if value is not None}
    if (max_latency is None) != (latency_table is None):
        raise InputError("--max-latency and --latency-table need each other; give both")
    if max_latency is not None:
        changes["latency"] = {"table": str(latency_table), "max": max_latency}
    if max_flops or max_params or flops_convention:
        first, *also = _constraints(config, max_flops, max_params, flops_convention)
        changes |= {"constraint": first, "also": [*config.to_dict()["also"], *also]}
    with progress_bar() as progress:
        found = start(config.replace(**changes), out_dir, workers, progress, execution)
    _print_found(found, out_dir)


@app.command("resume")
def search_resume(
    folder: Annotated[Path, typer.Argument(help="Folder of a search.")],
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Go on with a search that was stopped or killed; it ends as if it had not been."""
    from fbnetv3.search.execution.executor import Execution
    from fbnetv3.search.runs.run import resume

    execution = Execution(executor, ray_address, cpus, gpus)
    with progress_bar() as progress:
        found = resume(folder, workers, progress, execution)
    _print_found(found, folder)


@app.command("verify")
def search_verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a search.")],
    retrain: Annotated[int, typer.Option(min=0, help="Trainings of each ledger to make again.")] = 1,
    as_json: Json = False,
) -> None:
    """Recompute what can be: every proposal, the answer, its accuracy, some trainings. Exit code 1 if any differs."""
    from fbnetv3.search.runs.verify import verify

    with progress_bar() as progress:
        checks = verify(folder, retrain, progress)
    print_rows([dataclasses.asdict(check) for check in checks], as_json)
    if any(check.status == "differs" for check in checks):
        raise typer.Exit(1)


@app.command("export")
def search_export(
    folder: Annotated[Path, typer.Argument(help="Folder of a search.")],
    out_path: Annotated[Path, typer.Option("--out", help="File to write; for tensorboard a new folder.")],
    kind: Annotated[
        str, typer.Option("--format", help="csv (a table that a search can look up), json, tensorboard.")
    ] = "csv",
    baseline: Annotated[bool, typer.Option("--baseline", help="The trials of random search instead.")] = False,
) -> None:
    """Write the trials of a search for other programs."""
    from fbnetv3.search.report.export import FORMATS, export_trials

    if kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; give one of {', '.join(FORMATS)}")
    written = export_trials(folder, kind, out_path, "random" if baseline else "nars")
    out.print(f"{written} trials: {out_path}", highlight=False, soft_wrap=True)


@app.command("audit")
def search_audit(
    space: Annotated[str, typer.Argument(help="Name of a space, or path of a YAML file.")], as_json: Json = False
) -> None:
    """The size of a search space, and what of the released networks lies outside it."""
    from fbnetv3.search.space.audit import audit
    from fbnetv3.search.space.space import load_space

    found = audit(load_space(space))
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
        return
    out.print(
        f"{found.space}: {found.architectures:.3g} architectures, {found.architectures / found.resolutions:.3g} without the "
        f"choice of resolution ({found.resolutions}); {found.built:.3g} as built, widths rounded to multiples of 8 "
        f"({found.collapse:.0f} times fewer); {found.recipes:.3g} recipes",
        highlight=False,
        soft_wrap=True,
    )
    print_rows([_audit_row(network) for network in found.networks], False)
    outside = [_outside_row(network, entry) for network in found.networks for entry in network.outside]
    if outside:
        print_rows(outside, False)


def _audit_row(network: Any) -> dict[str, Any]:
    by_rounding = network.outside and network.contained
    return {
        "network": network.network,
        "inside": "by rounding" if by_rounding else "yes" if network.contained else "no",
        "published MFLOPs": f"{network.flops / 1e6:.1f}",
        "with same padding": f"{network.same_padding_flops / 1e6:.1f}",  # as a space builds it
    }


def _outside_row(network: Any, entry: Any) -> dict[str, Any]:
    return {
        "network": network.network,
        "coordinate": entry.coordinate,
        "has": entry.value,
        "the space": entry.allowed,
        "note": f"{entry.reached_from} is built as this" if entry.reached_from else None,
    }


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


def _constraints(
    config: Any, max_flops: str | None, max_params: str | None, convention: str | None
) -> list[dict[str, Any]]:
    """The preset's constraint with the user's budget, whose window keeps its proportions, and a parameter budget."""
    before = config.constraint
    convention, found = convention or before.convention, []
    if max_flops or not max_params:
        high = parse_count(max_flops, "--max-flops") if max_flops else before.max
        window = {"min": before.min / before.max * high, "max": high}
        found.append({"metric": "flops", "convention": convention, **window})
    if max_params:
        high = parse_count(max_params, "--max-params")
        found.append({"metric": "params", "convention": convention, "min": 0.0, "max": high})
    return found


def _print_found(found: list[Any], folder: Path) -> None:
    from fbnetv3.search.report.analysis import METHODS
    from fbnetv3.search.runs.run import PAIRS, REPORT

    for f in found:
        measured = f.pair.measured
        result = f"predicted {f.pair.predicted['mean']:.2f}%, not trained"
        if measured:
            result = f"{measured['acc1']:.2f}% on the {measured['split']} images after {measured['epochs']} epochs"
        out.print(
            f"[bold]{METHODS[f.method]}[/]: {result}, "
            f"{f.flops / 1e6:.3f}M FLOPs, {f.params / 1e3:.1f}K params; {folder / PAIRS[f.method]}",
            highlight=False,
            soft_wrap=True,
        )
    out.print(f"report: {folder / REPORT}", highlight=False, soft_wrap=True)
