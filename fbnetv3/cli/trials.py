"""Options that say where the trainings of a search run."""

from __future__ import annotations

from typing import Annotated

import typer

from fbnetv3.cli.show import finite

WHERE = "Where trainings run"

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of trainings that run at the same time. The default is one for each processor, or on GPUs "
        "--trials-per-gpu for each GPU. The result does not depend on it.",
        rich_help_panel=WHERE,
    ),
]
ExecutorKind = Annotated[
    str,
    typer.Option("--executor", help="processes (of this machine) or ray (a Ray cluster).", rich_help_panel=WHERE),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster: HOST:PORT, auto (the one of this machine), or local (start a new one).",
        rich_help_panel=WHERE,
    ),
]
Cpus = Annotated[
    float | None,
    typer.Option(
        "--cpus-per-trial",
        min=0,
        callback=finite,
        help="CPUs that Ray reserves for a training. The default is one for each of its processes.",
        rich_help_panel=WHERE,
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        min=0,
        callback=finite,
        help="GPUs that Ray reserves for a training. The default is one for each process of a training on GPUs, or "
        "1/N with --trials-per-gpu N, else none.",
        rich_help_panel=WHERE,
    ),
]
TrialsPerGpu = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of trainings that share a GPU. Each sees its own GPU alone, of those in CUDA_VISIBLE_DEVICES.",
        rich_help_panel=WHERE,
    ),
]
OtherDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device of the trainings from now on: auto, cpu, cuda or cuda:N. The default is the one that the search began "
        "with. Trainings on two devices are not equal to the last bit.",
        rich_help_panel=WHERE,
    ),
]
TrialTimeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds after which a training that has not ended is stopped and recorded as failed. The default is no limit.",
        rich_help_panel=WHERE,
    ),
]
