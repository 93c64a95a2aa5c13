"""`fbnetv3 make-zoo`: a zoo of networks from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.cli.show import Json, complete, print_rows, progress_bar, say
from fbnetv3.counts import MAX_SEED

TRAININGS = "Trainings"


def make_zoo(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for everything. The same command continues what was stopped.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="Name of a zoo, or the path of a YAML file.",
            autocompletion=complete("fbnetv3.search.runs.zoo", "list_zoos"),
        ),
    ] = "micro",
    data: Annotated[
        str | None,
        typer.Option(
            help="Data that the networks are trained on, as for `fbnetv3 train`. The default is that of the search."
        ),
    ] = None,
    search_data: Annotated[
        str | None,
        typer.Option(help="Data that the candidates are trained on. The default is that of the search's preset."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the search.")] = 0,
    device: Annotated[
        str,
        typer.Option(
            help="Device of all trainings: auto (the GPUs where there are some), cpu, cuda (all GPUs) or cuda:N.",
            rich_help_panel=TRAININGS,
        ),
    ] = "auto",
    trials_per_gpu: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of trainings that share a GPU. Each sees its own GPU alone, of those in CUDA_VISIBLE_DEVICES.",
            rich_help_panel=TRAININGS,
        ),
    ] = 1,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of networks that are trained at the same time, after the search. The default is 1, or on GPUs "
            "--trials-per-gpu for each GPU.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(min=1, help="Number of torchrun processes for each of these networks.", rich_help_panel=TRAININGS),
    ] = 1,
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of processes of every training that read images. The default is 0 on the CPU and up to 8 on a GPU.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which a training of the search that has not ended is stopped, and has failed.",
            rich_help_panel=TRAININGS,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a zoo from nothing: search, answer several budgets, scale, distil from the largest network, and publish.

    The weights can then be loaded with torch.hub.
    """
    from fbnetv3.search.report.page import write_report
    from fbnetv3.search.runs import zoo
    from fbnetv3.search.runs.resources import Resources

    resources = Resources(device, at_once, processes, readers, trial_timeout, trials_per_gpu)
    with progress_bar() as progress:
        account = zoo.make_zoo(zoo.load_zoo(preset), out_dir, data, search_data, seed, resources, progress)
    write_report(out_dir / zoo.SEARCH)
    print_rows(account["networks"], as_json)
    if not as_json:
        spent = ", ".join(f"{stage} {hours:g}" for stage, hours in account["hours"].items())
        say(f"hours of training: {spent}; the zoo: {out_dir / zoo.ZOO}")
