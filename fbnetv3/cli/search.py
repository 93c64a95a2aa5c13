"""`fbnetv3 search run | resume | extend | verify | export | budgets | importance`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fbnetv3.cli.show import LOGS, Json, Log, Overwrite, complete, finite, out, print_rows, progress_bar, say
from fbnetv3.cli.trials import (
    Cpus,
    ExecutorKind,
    Gpus,
    OtherDevice,
    RayAddress,
    TrialsPerGpu,
    TrialTimeout,
    Workers,
)
from fbnetv3.counts import MAX_SEED, parse_count
from fbnetv3.errors import InputError, available
from fbnetv3.files import refuse_to_overwrite
from fbnetv3.schema import dump_json

BUDGET, TRAININGS = "Budget", "Trainings"
# What `importance` prints, in this order: the title of every table, and its key.
IMPORTANCE = {
    "Shares of the variance of accuracy: of all candidates, and of the better half without noise": "variance",
    "What small and large networks want of a recipe": "recipes",
    "Points that networks lose with the best recipe for the other size": "swapped",
    "Share of pairs of architectures that change places with another good recipe, and with another seed": "flips",
    "Importance of every coordinate: loss of explained variance if its values are shuffled": "coordinates",
    "Share of the trainings inside their predicted interval": "calibration",
}

app = typer.Typer(
    no_args_is_help=True,
    help="NARS: search an architecture together with its training recipe. Also about search spaces.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of a search.")]
MovedData = Annotated[
    str | None,
    typer.Option(
        "--data", help="Where the images of the search are now, if they were moved. Their names and labels are checked."
    ),
]


@app.command("run")
def search_run(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to create for the search.")],
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the search in the folder, if there is one. It must have the same settings."
        ),
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Name of a preset, or the path of a YAML file. It has the defaults of most options. The default is "
            "quickstart or, with --data, images.",
            autocompletion=complete("fbnetv3.search.nars.config", "list_presets"),
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Name of a search space, or the path of a YAML file. The default is the preset's.",
            autocompletion=complete("fbnetv3.search.space.reader", "list_spaces"),
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the search. The default is the preset's.")
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also run random search with the same number of trainings.")
    ] = False,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Folder of an earlier search that has ended, from whose trainings the predictor starts. Its budget, data and "
            "values may be others, the names of its coordinates not. May be repeated.",
        ),
    ] = None,
    max_flops: Annotated[
        str | None,
        typer.Option(
            help="Largest number of FLOPs, such as 800K or 1.2M. The default is the preset's.", rich_help_panel=BUDGET
        ),
    ] = None,
    max_params: Annotated[
        str | None,
        typer.Option(
            help="Largest number of parameters. Without --max-flops it replaces the preset's budget of FLOPs.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Largest latency in milliseconds, in addition to the other budgets.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    latency_table: Annotated[
        Path | None,
        typer.Option(
            help="Latency table for --max-latency, of `fbnetv3 search latency-table`, or of latency-import for another "
            "device.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    flops_convention: Annotated[
        str | None,
        typer.Option(
            help="How FLOPs are counted: published or fvcore. The default is the preset's.", rich_help_panel=BUDGET
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data to train candidates on, as for `fbnetv3 train`. The default is the preset's.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    evaluator: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own function that trains candidates: (candidate, epochs, seed) -> Outcome. Its module may be in the "
            "current folder. Without --data it also makes the final training.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device of the trainings: auto (the GPUs where there are some), cpu, cuda (all GPUs) or cuda:N. The "
            "default is the preset's, or auto.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="auto (bf16 on a GPU that computes it, else fp32), fp32, tf32, bf16 or fp16. The default is the preset's, or "
            "auto.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of processes of every training that read images. The default is the preset's, or 0 on the CPU and up "
            "to 8 on a GPU.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes-per-trial",
            min=1,
            help="Number of torchrun processes that train one candidate together. The result depends on it.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    asynchronous: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Keep N trainings running in stage 2: when one ends, the next candidate is proposed. 0 trains in batches. The "
            "default is the preset's. The result depends on the order in which trainings end; the ledger keeps it.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    trial_timeout: TrialTimeout = None,
    trials_per_gpu: TrialsPerGpu = 1,
    log: Log = "",
) -> None:
    """Search a pair of architecture and recipe, train it, and write a report."""
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.nars.config import load_preset
    from fbnetv3.search.sessions import run_search
    from fbnetv3.tracking import open_trackers

    settings = ExecutorSettings(executor, workers, ray_address, cpus, gpus, trial_timeout, trials_per_gpu)
    config = load_preset(preset or ("images" if data and not evaluator else "quickstart"))
    changes: dict[str, Any] = {"baseline": baseline or config.baseline}
    given = {"space": space, "seed": seed, "data": data, "device": device, "precision": precision, "readers": readers}
    given |= {"processes": processes, "asynchronous": asynchronous}
    if sources:
        changes["warm_start"] = [str(source) for source in sources]
    if evaluator is not None:
        changes |= {"evaluator": evaluator, "data": None}
    changes |= {key: value for key, value in given.items() if value is not None}
    if (max_latency is None) != (latency_table is None):
        raise InputError("--max-latency and --latency-table work only together; give both")
    if max_latency is not None:
        changes["latency"] = {"table": str(latency_table), "max": max_latency}
    if (max_flops, max_params, flops_convention) != (None, None, None):
        first, *also = _constraints(config, max_flops, max_params, flops_convention)
        changes |= {"constraint": first, "also": [*config.to_dict()["also"], *also]}
    config = config.replace(**changes)
    with progress_bar() as progress, open_trackers(log, out_dir / LOGS, config.to_dict()) as trackers:
        results = run_search(config, out_dir, executor=settings, progress=progress, resume=resume, callbacks=trackers)
    _print_results(results, out_dir)


@app.command("resume")
def search_resume(
    folder: Folder,
    data: MovedData = None,
    device: OtherDevice = None,
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    trial_timeout: TrialTimeout = None,
    trials_per_gpu: TrialsPerGpu = 1,
    log: Log = "",
) -> None:
    """Continue a search that was stopped or killed. The result is the same as that of an uninterrupted search.

    That of an asynchronous search is the same if its trainings end in the same order.
    """
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.runs.folder import written_config
    from fbnetv3.search.sessions import resume_search
    from fbnetv3.tracking import open_trackers

    settings = ExecutorSettings(executor, workers, ray_address, cpus, gpus, trial_timeout, trials_per_gpu)
    about = written_config(folder).to_dict() if log else {}
    with progress_bar() as progress, open_trackers(log, folder / LOGS, about) as trackers:
        results = resume_search(
            folder, executor=settings, progress=progress, data=data, device=device, callbacks=trackers
        )
    _print_results(results, folder)


@app.command("extend")
def search_extend(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    rounds: Annotated[
        int | None, typer.Option(help="Number of batches to add. The finalists after them are added too.")
    ] = None,
    trainings: Annotated[
        int | None, typer.Option(help="Number of trainings to add, the finalists among them. Instead of --rounds.")
    ] = None,
    data: MovedData = None,
    device: OtherDevice = None,
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    trial_timeout: TrialTimeout = None,
    trials_per_gpu: TrialsPerGpu = 1,
    log: Log = "",
) -> None:
    """Go on with a finished search: more trainings, and the best answer of all of them.

    The answer gets a final training if it is another one than before. The earlier one is kept in FOLDER/earlier. If the command
    is stopped or killed, `search resume` continues.
    """
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.runs.folder import written_config
    from fbnetv3.search.sessions import extend_search
    from fbnetv3.tracking import open_trackers

    settings = ExecutorSettings(executor, workers, ray_address, cpus, gpus, trial_timeout, trials_per_gpu)
    about = written_config(folder).to_dict() if log else {}
    with progress_bar() as progress, open_trackers(log, folder / LOGS, about) as trackers:
        results = extend_search(
            folder,
            rounds=rounds,
            trainings=trainings,
            executor=settings,
            progress=progress,
            data=data,
            device=device,
            callbacks=trackers,
        )
    _print_results(results, folder)


@app.command("verify")
def search_verify(
    folder: Folder,
    retrain: Annotated[int, typer.Option(min=0, help="Number of trainings of each ledger to repeat.")] = 1,
    data: MovedData = None,
    device: OtherDevice = None,
    as_json: Json = False,
) -> None:
    """Recompute what was recorded: every proposed candidate, the answer, its accuracy, and some trainings.

    The exit code is 1 if anything differs.
    """
    from fbnetv3.search.runs.verify import verify

    with progress_bar() as progress:
        checks = verify(folder, retrain, progress, data, device)
    print_rows([dataclasses.asdict(check) for check in checks], as_json)
    if any(check.status == "differs" for check in checks):
        raise typer.Exit(1)


@app.command("export")
def search_export(
    folder: Folder,
    out_path: Annotated[Path, typer.Option("--out", help="File to write. For tensorboard, a folder to create.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format", help="csv (a table that a search can look trainings up in), json, tensorboard, or optuna."
        ),
    ] = "csv",
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Write the trials of random search instead of those of NARS.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the trials of a search for other programs."""
    from fbnetv3.search.report.export import FORMATS, export_trials

    if kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; {available(kind, FORMATS)}")
    if kind != "tensorboard":  # a folder, which must be new
        refuse_to_overwrite(out_path, overwrite)
    written = export_trials(folder, kind, out_path, "random" if baseline else "nars")
    say(f"{written} trials: {out_path}")


@app.command("budgets")
def search_budgets(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    max_flops: Annotated[
        list[str] | None,
        typer.Option(help='Budgets of FLOPs in the convention of the search, such as "450M 550M". May be repeated.'),
    ] = None,
    max_params: Annotated[
        list[str] | None, typer.Option(help="Budgets of parameters, instead of budgets of FLOPs.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Also run the final training of every pair.")] = False,
    data: MovedData = None,
    device: OtherDevice = None,
    trials_per_gpu: TrialsPerGpu = 1,
    as_json: Json = False,
) -> None:
    """Answer several budgets from one search. FOLDER/budgets gets a pair file for each, a table and the Pareto front."""
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.report.front import write_front
    from fbnetv3.search.runs.budgets import budget_pairs, table_rows

    if bool(max_flops) == bool(max_params):
        raise InputError("give budgets with --max-flops or with --max-params")
    metric: Literal["flops", "params"] = "flops" if max_flops else "params"
    option = f"--max-{metric}"
    words = " ".join(max_flops or max_params or []).replace(",", " ").split()
    maxima = [parse_count(word, option) for word in words]
    if not maxima:
        raise InputError(f"{option} has no budget; give counts such as 450M")
    with progress_bar() as progress:
        executor = ExecutorSettings(trials_per_gpu=trials_per_gpu)
        pairs = budget_pairs(folder, maxima, progress, metric, train, data, device, executor)
    plot = write_front([answer for answer, _ in pairs], folder)
    print_rows(table_rows(pairs), as_json)
    if not as_json:
        say(f"Pareto front: {plot}, {plot.with_suffix('.json').name}")


@app.command("confirm")
def search_confirm(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished search with a final training.")],
    seeds: Annotated[
        int, typer.Option(min=2, max=1000, help="Trainings of every answer, the final training among them.")
    ] = 5,
    data: MovedData = None,
    device: OtherDevice = None,
    workers: Workers = None,
    trials_per_gpu: TrialsPerGpu = 1,
    as_json: Json = False,
) -> None:
    """Train the answer with more seeds, and say how sure its accuracy is and what it is better than.

    It is compared with the answer of random search, if the search has one, and with the same network trained with the base
    recipe. What was trained is not trained again. FOLDER/confirmed.json and the report have the result.
    """
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.report.page import write_report
    from fbnetv3.search.runs.confirm import confirm, table_rows

    executor = ExecutorSettings(workers=workers, trials_per_gpu=trials_per_gpu)
    with progress_bar() as progress:
        confirmation = confirm(folder, seeds, progress, data, device, executor)
    report = write_report(folder)
    print_rows(table_rows(confirmation), as_json)
    if not as_json:
        say(f"Report: {report}")


@app.command("importance")
def search_importance(folder: Folder, as_json: Json = False) -> None:
    """Say what the accuracy depends on, and which recipe small and large networks want, as far as the trials tell.

    The search may still run. The report of a finished search shows the same.
    """
    from fbnetv3.search.report.findings import as_data, find_in
    from fbnetv3.search.runs.folder import load_search

    found = as_data(find_in(load_search(folder)))
    if as_json:
        print(dump_json(found))
        return
    for title, key in IMPORTANCE.items():
        say(title)
        if found[key]:
            print_rows(found[key], as_json)
        elif key == "calibration":
            say("No training has a prediction yet: the first batch is random.")
        else:
            say("The trials do not tell: there are too few, or the predictor does not explain them.")


def _constraints(
    config: Any, max_flops: str | None, max_params: str | None, convention: str | None
) -> list[dict[str, Any]]:
    """Return the preset's constraint with the budgets of the options.

    The smallest allowed number of FLOPs keeps its proportion to the largest one.
    """
    before = config.constraint
    convention, found = before.convention if convention is None else convention, []
    if max_flops is not None or max_params is None:
        high = before.max if max_flops is None else parse_count(max_flops, "--max-flops")
        window = {"min": before.min / before.max * high, "max": high}
        found.append({"metric": "flops", "convention": convention, **window})
    if max_params is not None:
        high = parse_count(max_params, "--max-params")
        found.append({"metric": "params", "convention": convention, "min": 0.0, "max": high})
    return found


def _print_results(results: list[Any], folder: Path) -> None:
    from fbnetv3.search.report.page import REPORT
    from fbnetv3.search.runs.confirm import load_confirmation, table_rows
    from fbnetv3.search.runs.folder import METHODS, load_search

    search = load_search(folder)
    for r in results:
        measured = r.pair.measured
        result = f"predicted {r.pair.predicted['mean']:.2f}% after {r.proposal.epochs} epochs, without a final training"
        if measured:
            result = f"{measured['acc1']:.2f}% on the {measured['split']} images after {measured['epochs']} epochs"
        out.print(f"[bold]{METHODS[r.method]}[/]: ", end="")
        say(f"{result}, {r.flops / 1e6:.3f}M FLOPs, {r.params / 1e3:.1f}K params; {search.pair(r.method)}")
    for source in results[0].pair.provenance.get("started_from", ()):
        say(f"started from {source}")
    if confirmation := load_confirmation(search):
        print_rows(table_rows(confirmation), as_json=False)
    say(f"report: {folder / REPORT}")
