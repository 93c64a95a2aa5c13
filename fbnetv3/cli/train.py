"""`fbnetv3 train`: a searched pair, or any recipe on any network, alone, under torchrun or in the tasks of SLURM."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.networks import MODEL_NAMES
from fbnetv3.cli.show import LOGS, ON_BAD_IMAGE, Log, complete, err, print_rows, progress_bar, say
from fbnetv3.cli.training_plan import changes, find_settings, load_teacher, plan_of_pair, plan_of_recipe
from fbnetv3.cli.training_result import about, keep_other_weights, measured, memory_advice, save_weights, weights_path
from fbnetv3.counts import MAX_SEED
from fbnetv3.errors import InputError
from fbnetv3.progress import Report, silent

if TYPE_CHECKING:
    from fbnetv3.training.process_rank import ProcessRank

WHAT, DATA, ENGINE, OUTPUT = "Network and recipe", "Data", "Training", "Output"
RECIPE_NAMES = complete("fbnetv3.recipes", "list_recipes")


def train(
    pair: Annotated[
        Path | None, typer.Option(help="Pair file, which has an architecture and a recipe.", rich_help_panel=WHAT)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead of a pair: fbnetv3_a, timm:NAME, torchvision:NAME, or MODULE:CALLABLE for a custom network. The "
            "module may be a file of the current directory.",
            rich_help_panel=WHAT,
            autocompletion=MODEL_NAMES,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a source of --model such as fb, a path or a URL. A file of this package needs no "
            "--model. With another number of classes the classifier is new.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe (`fbnetv3 recipe list`), or the path of a YAML file. With --weights the default is one for "
            "fine-tuning.",
            rich_help_panel=WHAT,
            autocompletion=RECIPE_NAMES,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE changes a value of the recipe. May be repeated.", rich_help_panel=WHAT),
    ] = None,
    scale_lr: Annotated[
        str | None,
        typer.Option(
            help="Let the learning rate follow --set batch_size=N: linear, by the same factor (usual for SGD), or sqrt, by its "
            "square root (usual for RMSProp).",
            rich_help_panel=WHAT,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Weights of the teacher for distillation: MODEL:SOURCE, MODEL=PATH, or a file that names its network.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion_mnist, a folder with train/CLASS/IMAGE or CLASS/IMAGE, torchvision:NAME:FOLDER, list:LISTS:FOLDER...",
            rich_help_panel=DATA,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Download a data set of torchvision that is missing.", rich_help_panel=DATA),
    ] = False,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the training images in pixels.", rich_help_panel=DATA)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Largest number of images of every class.", rich_help_panel=DATA)
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Number of processes that read images. auto is 0 on the CPU, and up to 8 for a GPU.",
            rich_help_panel=DATA,
        ),
    ] = "auto",
    on_bad_image: Annotated[str, typer.Option(help=ON_BAD_IMAGE, rich_help_panel=DATA)] = "skip",
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Read every image once before the first step.", rich_help_panel=DATA)
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_SEED, help="Seed of the training. The default is the pair's, or 0.", rich_help_panel=ENGINE
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this epoch of the recipe's schedule.", rich_help_panel=ENGINE),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop when the accuracy on val has not risen for so many epochs, and keep the weights of the best epoch.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    threads: Annotated[
        str,
        typer.Option(
            help="Number of threads of torch. auto is 1 on the CPU, where equal results to the last bit need equal numbers, "
            "and up to 8 for a GPU.",
            rich_help_panel=ENGINE,
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="Device to train on: cpu, cuda, cuda:N, or auto: a GPU if there is one.", rich_help_panel=ENGINE
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, tf32, bf16, fp16, or auto: bf16 on a GPU that computes it, else fp32.", rich_help_panel=ENGINE
        ),
    ] = "auto",
    accumulate: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of parts that a batch is computed in, to save memory. The gradients are added.",
            rich_help_panel=ENGINE,
        ),
    ] = 1,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network with torch.compile.", rich_help_panel=ENGINE)
    ] = False,
    compile_mode: Annotated[
        str | None,
        typer.Option(
            help="Compile the network in a mode of torch.compile: default, reduce-overhead (CUDA graphs on a GPU), "
            "max-autotune-no-cudagraphs or max-autotune.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Use only algorithms that give the same bits in every run, which is slower. On the CPU it changes nothing.",
            rich_help_panel=ENGINE,
        ),
    ] = False,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for checkpoints, metrics and weights. For a pair, the default is `retrained` beside it.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in the folder.", rich_help_panel=OUTPUT)
    ] = False,
    checkpoint_steps: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also save a checkpoint after every so many steps within an epoch.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    log: Log = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train a pair, or a recipe on any network, and measure its accuracy on the test images."""
    import torch

    from fbnetv3.tracking import open_trackers
    from fbnetv3.training.distributed import process_group
    from fbnetv3.training.engine import Engine, cpu_threads, seeded
    from fbnetv3.training.loop import fit
    from fbnetv3.training.trainer import DivergedError

    settings = find_settings(device, precision, threads, workers)
    mode = compile_mode or compiled
    engine = Engine(settings.device, settings.precision, accumulate, mode, checkpoint_steps, deterministic)
    if download and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "--download with several processes, which would write the same files; download with one process"
        )
    options: dict[str, Any] = {"resolution": resolution, "limit": limit, "workers": settings.workers}
    options |= {"download": download, "on_bad_image": on_bad_image}
    if pair is not None:
        if (model, recipe, weights) != (None, None, None):
            raise InputError(
                "--pair with --model, --weights or --recipe; a pair has network and recipe: give only --pair, or the others"
            )
        plan = plan_of_pair(pair, data, out_dir, seed, changes(change), options, scale_lr)
    else:
        plan = plan_of_recipe(model, recipe, data, out_dir, seed, changes(change), options, weights, scale_lr)
    keep_other_weights(plan.out)
    taught = load_teacher(teacher, plan)
    plan.notes.extend(settings.notes())  # before the network's, which is built later
    with (
        cpu_threads(settings.threads),
        process_group(torch.device(settings.device)) as process,
        _first_says(process.rank, plan.notes) as progress,
        open_trackers("" if process.rank else log, plan.out / LOGS, about(plan)) as trackers,
    ):
        if check_data:
            _read_all(plan.data, process, progress)
        try:
            trained = fit(
                seeded(plan.build, plan.seed),
                plan.recipe,
                plan.data,
                seed=plan.seed,
                epochs=epochs,
                patience=patience,
                out=plan.out,
                resume=resume,
                progress=progress,
                callbacks=trackers,
                engine=engine,
                teacher=taught,
            )
        except DivergedError as error:
            raise InputError(f"{error}; lower the learning rate") from None
        except torch.OutOfMemoryError as error:
            raise InputError(memory_advice(error, settings.device)) from None
        # The weights are saved before anything else can go wrong: measuring them can be repeated, the training cannot.
        done = trained.epoch
        row: dict[str, Any] = {"val_acc1": trained.acc1[done - 1]}
        saved = save_weights(trained.model, plan, done, row) if process.rank == 0 else weights_path(plan)
        row |= measured(trained.model, plan, saved, limit, process, settings.device)
        if process.rank == 0:
            save_weights(trained.model, plan, done, {key: row[key] for key in row if key != "left_out"})
            row |= {"epochs": done, "seed": plan.seed, **settings.row, "weights": str(saved)}
            print_rows([row], as_json)


def _read_all(data: Any, process: ProcessRank, progress: Report | None) -> None:
    """Read all images before the first step. Those that cannot be read are told, or end the run."""
    from fbnetv3.training.data.check import find_bad_images
    from fbnetv3.training.distributed import gathered

    mine = find_bad_images(data, progress or silent, process)
    if data.bad.skip:
        for image in mine:
            data.bad.add(image.split, [(image.index, image.reason)])
    elif bad := [image for part in gathered(mine, process) for image in part]:
        raise InputError(
            f"{len(bad)} images cannot be read. The first one: {bad[0].reason}. `fbnetv3 check-data` lists them; "
            "--on-bad-image skip leaves them out"
        )


@contextlib.contextmanager
def _first_says(rank: int, notes: list[str]) -> Iterator[Report | None]:
    """Yield the function that progress is reported to, or None in all processes but the first.

    The notes are printed at the first step: by then every check of the input has passed, and an error stays one line.
    """
    if rank:
        yield None
        return
    with progress_bar() as progress:

        def report(done: int, total: int, text: str) -> None:
            while notes:
                say(notes.pop(0), err)
            progress(done, total, text)

        yield report
