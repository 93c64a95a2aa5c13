"""`fbnetv3 train`: a searched pair, or any recipe on any network, alone or under torchrun."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.networks import MODEL_NAMES
from fbnetv3.cli.show import complete, err, print_rows, progress_bar
from fbnetv3.counts import MAX_SEED
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.training.data.protocol import Data
    from fbnetv3.training.recipe import Recipe
    from fbnetv3.weight_file import WeightFile

SEED = 0
WHAT, DATA, ENGINE, OUTPUT = "Network and recipe", "Data", "Training", "Output"
RECIPE_NAMES = complete("fbnetv3.recipes", "list_recipes")


@dataclass(frozen=True)
class _Plan:
    """What is trained.

    `build` must be called when torch's generator has the seed, because it draws the initial weights. It then adds to `notes`
    what it built.
    """

    build: Callable[[], nn.Module]
    recipe: Recipe
    data: Data
    seed: int
    out: Path
    notes: list[str] = field(default_factory=list)


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
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe (`fbnetv3 recipe list`), or the path of a YAML file.",
            rich_help_panel=WHAT,
            autocompletion=RECIPE_NAMES,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE changes a value of the recipe. May be repeated.", rich_help_panel=WHAT),
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
            help="fashion_mnist, a folder with train/CLASS/IMAGE, torchvision:NAME:FOLDER, list:LISTS:FOLDER, ...",
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
        int, typer.Option(min=0, help="Number of processes that read images.", rich_help_panel=DATA)
    ] = 0,
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
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of threads of torch. Equal results to the last bit need equal numbers.",
            rich_help_panel=ENGINE,
        ),
    ] = 1,
    device: Annotated[
        str, typer.Option(help="Device to train on: cpu, cuda or cuda:N.", rich_help_panel=ENGINE)
    ] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 (autocast).", rich_help_panel=ENGINE)] = "fp32",
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
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train a pair, or a recipe on any network, and measure its accuracy on the test images."""
    import torch

    from fbnetv3.training.accuracy import final_split, measure
    from fbnetv3.training.distributed import find_device, process_group
    from fbnetv3.training.engine import Engine, cpu_threads, seeded
    from fbnetv3.training.loop import fit
    from fbnetv3.training.trainer import DivergedError

    device = find_device(device)
    engine = Engine(device, precision, accumulate, compiled, checkpoint_steps, tensorboard)  # type: ignore[arg-type]
    if download and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "--download with several processes, which would write the same files; download with one process"
        )
    options = {"resolution": resolution, "limit": limit, "workers": workers, "download": download}
    if pair is not None:
        if model is not None or recipe is not None:
            raise InputError("--pair with --model or --recipe; a pair has both: give only --pair, or the other two")
        plan = _of_pair(pair, data, out_dir, seed, _changes(change), options)
    else:
        plan = _of_recipe(model, recipe, data, out_dir, seed, _changes(change), options)
    taught = _teacher(teacher, plan)
    with (
        cpu_threads(threads),
        process_group(torch.device(device)) as process,
        _first_says(process.rank, plan.notes) as progress,
    ):
        try:
            trained = fit(
                seeded(plan.build, plan.seed),
                plan.recipe,
                plan.data,
                seed=plan.seed,
                epochs=epochs,
                out=plan.out,
                resume=resume,
                progress=progress,
                engine=engine,
                teacher=taught,
            )
        except DivergedError as error:
            raise InputError(f"{error}; lower the learning rate") from None
        split = final_split(plan.data)
        accuracy = measure(trained.model, plan.data, split, process, torch.device(device))
        if process.rank == 0:
            row = {"val_acc1": trained.acc1[-1], f"{split}_acc1": accuracy.acc1, f"{split}_acc5": accuracy.acc5}
            print_rows([row | {"seed": plan.seed, "weights": str(_save(trained.model, plan))}], as_json)


def _changes(texts: list[str] | None) -> dict[str, Any]:
    """Return the changes that `--set` asks for."""
    from fbnetv3.schema import parse_scalar

    for text in texts or ():
        if "=" not in text:
            raise InputError(f"--set {text!r}; give FIELD=VALUE")
    return {key: parse_scalar(value) for key, _, value in (text.partition("=") for text in texts or ())}


def _of_pair(
    pair: Path,
    data: str | None,
    out_dir: Path | None,
    seed: int | None,
    changes: dict[str, Any],
    options: dict[str, Any],
) -> _Plan:
    from fbnetv3.model import build_model
    from fbnetv3.pair_file import load_pair
    from fbnetv3.training.data.load import image_side, load_data

    given = load_pair(pair)
    recipe, spec = given.recipe.replace(**changes), data or given.provenance["data"]
    options["resolution"] = options["resolution"] or image_side(spec, given.arch.resolution)
    images = load_data(spec, **options)
    seed = given.provenance.get("training_seed", given.seed) if seed is None else seed

    def build() -> nn.Module:
        return build_model(
            given.arch, len(images.classes), images.transforms.in_chans, recipe.dropout, recipe.stochastic_depth
        )

    return _Plan(build, recipe, images, seed, out_dir or pair.parent / "retrained")


def _of_recipe(
    model: str | None,
    recipe: str | None,
    data: str | None,
    out_dir: Path | None,
    seed: int | None,
    changes: dict[str, Any],
    options: dict[str, Any],
) -> _Plan:
    from fbnetv3.recipes import load_recipe
    from fbnetv3.training.data.load import load_data
    from fbnetv3.training.network.factory import SOURCES, build

    needed = {"--model": model, "--recipe": recipe, "--data": data, "--out": out_dir}
    if model is None or recipe is None or data is None or out_dir is None:
        missing = ", ".join(name for name, value in needed.items() if value is None)
        raise InputError(f"{missing} missing; give --pair, or --model, --recipe, --data and --out")
    chosen, images = load_recipe(recipe).replace(**changes), load_data(data, **options)
    if ":" in model and model.partition(":")[0] not in SOURCES:
        # Python itself looks for modules in the current directory only if it is started with `python -m`.
        sys.path.insert(0, str(Path.cwd()))
    notes: list[str] = []

    def make() -> nn.Module:
        built = build(model, chosen, len(images.classes), images.transforms.in_chans)
        notes.append(built.summary())
        return built.model

    return _Plan(make, chosen, images, SEED if seed is None else seed, out_dir, notes)


def _teacher(text: str | None, plan: _Plan) -> nn.Module | None:
    """Return the teacher of a recipe with distillation: a network with weights, for the same classes and channels."""
    weight = plan.recipe.distillation
    if text is None:
        if weight:
            raise InputError(f"the recipe distils with weight {weight}; give --teacher, or --set distillation=0")
        return None
    if not weight:
        raise InputError(
            f"--teacher {text}, but the recipe does not distil; leave it out, or give --set distillation=0.8"
        )
    model = _teacher_weights(text).build()
    has, needs = (model.num_classes, model.in_chans), (len(plan.data.classes), plan.data.transforms.in_chans)
    if has != needs:
        raise InputError(
            f"--teacher {text} has {has[0]} classes and {has[1]} channels, but the data has {needs[0]} and {needs[1]}; give a "
            "teacher for this data"
        )
    return model


def _teacher_weights(text: str) -> WeightFile:
    """Return the weights of `fbnetv3_g:fb`, of `fbnetv3_g=PATH`, or of a file or URL that names its network."""
    from fbnetv3.hub.load import load_weights

    if Path(text).exists() or "://" in text.partition("=")[0]:
        return load_weights(None, text)
    for mark in "=:":
        model, found, source = text.partition(mark)
        if found:
            return load_weights(model, source)
    return load_weights(None, text)


@contextlib.contextmanager
def _first_says(rank: int, notes: list[str]) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield the function that progress is reported to, or None in all processes but the first.

    The notes are printed at the first step: by then every check of the input has passed, and an error stays one line.
    """
    if rank:
        yield None
        return
    with progress_bar() as progress:

        def report(done: int, total: int, text: str) -> None:
            while notes:
                err.print(notes.pop(), highlight=False, soft_wrap=True)
            progress(done, total, text)

        yield report


def _save(model: nn.Module, plan: _Plan) -> Path:
    """Write the weights: of networks of this package with a description of the network, of others the tensors alone."""
    from fbnetv3.model import FBNetV3
    from fbnetv3.weight_file import WeightFile, write_tensors, write_weight_file

    path = plan.out / "weights.pt"
    if isinstance(model, FBNetV3):
        write_weight_file(path, WeightFile.from_model(model, plan.data.classes, plan.data.transforms))
    else:
        write_tensors(path, model.state_dict(), {})
    return path
