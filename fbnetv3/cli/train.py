"""`fbnetv3 train`: a searched pair, or any recipe on any network, alone or under torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.show import Json, err, print_rows, progress_bar
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.training.data import Data
    from fbnetv3.training.recipe import Recipe

SEED = 0


@dataclass(frozen=True)
class _Plan:
    """What is trained: a network is built when the generator stands at the seed."""

    build: Callable[[], nn.Module]
    recipe: Recipe
    data: Data
    seed: int
    out: Path


def train(
    pair: Annotated[Path | None, typer.Option(help="Pair file: architecture and recipe.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of a pair: fbnetv3_a, timm:NAME, torchvision:NAME, MODULE:CALLABLE.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe (`fbnetv3 recipe list`), or a YAML file.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="fashion_mnist, a folder with train/CLASS/PICTURE, torchvision:NAME:FOLDER, ...")
    ] = None,
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

    from fbnetv3.training.distributed import processes
    from fbnetv3.training.loop import DivergedError, Engine, cpu_threads, fit, seeded
    from fbnetv3.training.measure import measure

    device = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
    engine = Engine(device, precision, accumulate, compiled, checkpoint_steps, tensorboard)  # type: ignore[arg-type]
    options = {"resolution": resolution, "limit": limit, "workers": workers}
    if pair is not None:
        if model is not None or recipe is not None:
            raise InputError("--pair with --model or --recipe; a pair holds both: give one or the other")
        plan = _of_pair(pair, data, out_dir, seed, options)
    else:
        plan = _of_recipe(model, recipe, data, out_dir, seed, change or [], options)
    taught = None if teacher is None else _teacher(teacher)
    with cpu_threads(threads), processes(torch.device(device)) as share, _quiet_but_first(share.rank) as progress:
        try:
            trained = fit(
                seeded(plan.build, plan.seed), plan.recipe, plan.data, seed=plan.seed, epochs=epochs, out=plan.out,
                resume=resume, progress=progress, engine=engine, teacher=taught,
            )  # fmt: skip
        except DivergedError as error:
            raise InputError(f"{error}; lower the learning rate") from None
        split = "test" if _has_test(plan.data) else "val"
        accuracy = measure(trained.model, plan.data, split, share, torch.device(device))
        if share.rank == 0:
            row = {"val_acc1": trained.acc1[-1], f"{split}_acc1": accuracy.acc1, f"{split}_acc5": accuracy.acc5}
            print_rows([row | {"seed": plan.seed, "weights": str(_save(trained.model, plan))}], as_json)


def _of_pair(pair: Path, data: str | None, out_dir: Path | None, seed: int | None, options: dict[str, Any]) -> _Plan:
    from fbnetv3.model import build_model
    from fbnetv3.search.pair import load_pair
    from fbnetv3.training.load import load_data

    given = load_pair(pair)
    images, recipe = load_data(data or given.provenance["data"], **options), given.recipe
    seed = given.provenance.get("training_seed", given.seed) if seed is None else seed

    def build() -> nn.Module:
        return build_model(
            given.arch, len(images.classes), images.transforms.in_chans, recipe.dropout, recipe.stochastic_depth
        )

    return _Plan(build, recipe, images, seed, out_dir or pair.parent / "retrained")


def _of_recipe(
    model: str | None, recipe: str | None, data: str | None, out_dir: Path | None, seed: int | None,
    changes: list[str], options: dict[str, Any],
) -> _Plan:  # fmt: skip
    from fbnetv3.recipes import load_recipe
    from fbnetv3.schema import parse_scalar
    from fbnetv3.training.apply import build
    from fbnetv3.training.load import load_data

    needed = {"--model": model, "--recipe": recipe, "--data": data, "--out": out_dir}
    if model is None or recipe is None or data is None or out_dir is None:
        missing = ", ".join(name for name, value in needed.items() if value is None)
        raise InputError(f"{missing} missing: give --pair, or --model, --recipe, --data and --out")
    for text in changes:
        if "=" not in text:
            raise InputError(f"--set {text!r}; give FIELD=VALUE")
    values = {key: parse_scalar(value) for key, _, value in (text.partition("=") for text in changes)}
    chosen, images = load_recipe(recipe).replace(**values), load_data(data, **options)

    def make() -> nn.Module:
        applied = build(
            model, len(images.classes), images.transforms.in_chans, dropout=chosen.dropout,
            stochastic_depth=chosen.stochastic_depth,
        )  # fmt: skip
        if os.environ.get("RANK", "0") == "0":
            err.print(applied.summary(), highlight=False, soft_wrap=True)
        return applied.model

    return _Plan(make, chosen, images, SEED if seed is None else seed, out_dir)


def _teacher(text: str) -> nn.Module:
    """A network with weights: `fbnetv3_g:fb`, `fbnetv3_g=PATH`, or a file that describes itself."""
    from fbnetv3.hub.load import load_weights

    name, equals, path = text.partition("=")
    if equals:
        return load_weights(name, path).build()
    model, colon, source = text.partition(":")
    if colon and not Path(text).exists() and "//" not in text:
        return load_weights(model, source).build()
    return load_weights(None, text).build()


@contextlib.contextmanager
def _quiet_but_first(rank: int) -> Iterator[Callable[[int, int, str], None] | None]:
    """Progress of the first of several processes."""
    if rank:
        yield None
        return
    with progress_bar() as progress:
        yield progress


def _has_test(data: Data) -> bool:
    try:
        return data.count("test") > 0
    except InputError:
        return False


def _save(model: nn.Module, plan: _Plan) -> Path:
    """Weights: a file that describes itself for this package's networks, a state dict for others."""
    from fbnetv3.model import FBNetV3
    from fbnetv3.weight_file import WeightFile, write_tensors, write_weight_file

    path = plan.out / "weights.pt"
    if isinstance(model, FBNetV3):
        write_weight_file(path, WeightFile.of(model, plan.data.classes, plan.data.transforms))
    else:
        write_tensors(path, model.state_dict(), {})
    return path
