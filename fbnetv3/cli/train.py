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

from fbnetv3.cli.show import Json, err, print_rows, progress_bar
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.training.data.protocol import Data
    from fbnetv3.training.recipe import Recipe
    from fbnetv3.weight_file import WeightFile

SEED = 0


@dataclass(frozen=True)
class _Plan:
    """What is trained: a network is built when the generator stands at the seed, and `notes` say then what was built."""

    build: Callable[[], nn.Module]
    recipe: Recipe
    data: Data
    seed: int
    out: Path
    notes: list[str] = field(default_factory=list)


def train(
    pair: Annotated[Path | None, typer.Option(help="Pair file: architecture and recipe.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead of a pair: fbnetv3_a, timm:NAME, torchvision:NAME, or an own MODULE:CALLABLE, which may lie in the "
            "current directory."
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe (`fbnetv3 recipe list`), or a YAML file.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion_mnist, a folder with train/CLASS/PICTURE, torchvision:NAME:FOLDER, list:LISTS:FOLDER, ..."
        ),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a set of torchvision that is not there.")] = False,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; of a pair by default `retrained` beside it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default the pair's, else 0.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs of the schedule.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the recipe to change; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="Weights that are distilled: MODEL:SOURCE, MODEL=PATH, or a file that describes itself."),
    ] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side of the training images in pixels.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Images of every class, at most.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch; part of what makes results bit-equal.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 autocast.")] = "fp32",
    accumulate: Annotated[int, typer.Option(min=1, help="Parts that a batch is worked off in.")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network first.")] = False,
    checkpoint_steps: Annotated[int, typer.Option(min=0, help="Also save every so many steps within an epoch.")] = 0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's files.")] = False,
    as_json: Json = False,
) -> None:
    """Train a pair, or a recipe on any network, and measure it on the test images."""
    import torch

    from fbnetv3.training.accuracy import final_split, measure
    from fbnetv3.training.distributed import find_device, process_group
    from fbnetv3.training.engine import Engine, cpu_threads, seeded
    from fbnetv3.training.loop import fit
    from fbnetv3.training.trainer import DivergedError

    device = find_device(device)
    engine = Engine(device, precision, accumulate, compiled, checkpoint_steps, tensorboard)  # type: ignore[arg-type]
    if download and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--download in several processes, which would write the same files; fetch the data with one")
    options = {"resolution": resolution, "limit": limit, "workers": workers, "download": download}
    if pair is not None:
        if model is not None or recipe is not None:
            raise InputError("--pair with --model or --recipe; a pair holds both: give one or the other")
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
    """The values that `--set` gives."""
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
        raise InputError(f"{missing} missing: give --pair, or --model, --recipe, --data and --out")
    chosen, images = load_recipe(recipe).replace(**changes), load_data(data, **options)
    if ":" in model and model.partition(":")[0] not in SOURCES:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it: the installed command does not look there
    notes: list[str] = []

    def make() -> nn.Module:
        built = build(model, chosen, len(images.classes), images.transforms.in_chans)
        notes.append(built.summary())
        return built.model

    return _Plan(make, chosen, images, SEED if seed is None else seed, out_dir, notes)


def _teacher(text: str | None, plan: _Plan) -> nn.Module | None:
    """The network that the recipe distils, if it does: one with weights, for the same classes and channels."""
    weight = plan.recipe.distillation
    if text is None:
        if weight:
            raise InputError(f"the recipe distils with weight {weight}: give --teacher, or --set distillation=0")
        return None
    if not weight:
        raise InputError(f"--teacher {text}, but the recipe does not distil: leave it out, or --set distillation=0.8")
    model = _teacher_weights(text).build()
    has, needs = (model.num_classes, model.in_chans), (len(plan.data.classes), plan.data.transforms.in_chans)
    if has != needs:
        raise InputError(
            f"--teacher {text} has {has[0]} classes and {has[1]} channels, the data {needs[0]} and {needs[1]}; give a "
            "teacher of the same"
        )
    return model


def _teacher_weights(text: str) -> WeightFile:
    """`fbnetv3_g:fb`, `fbnetv3_g=PATH`, or a file or URL that describes itself."""
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
    """Progress of the first of several processes; the notes come with its first step, after all that may be wrong."""
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
    """Weights: a file that describes itself for this package's networks, a state dict for others."""
    from fbnetv3.model import FBNetV3
    from fbnetv3.weight_file import WeightFile, write_tensors, write_weight_file

    path = plan.out / "weights.pt"
    if isinstance(model, FBNetV3):
        write_weight_file(path, WeightFile.from_model(model, plan.data.classes, plan.data.transforms))
    else:
        write_tensors(path, model.state_dict(), {})
    return path
