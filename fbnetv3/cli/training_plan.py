"""What `fbnetv3 train` trains, from its options: a network, a recipe, data, a seed and a teacher; and on which machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError, quote

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.device import Precision
    from fbnetv3.networks.named import NamedNetwork
    from fbnetv3.networks.weight_file import WeightFile
    from fbnetv3.training.data.protocol import Data
    from fbnetv3.training.recipe import Recipe

SEED = 0


@dataclass(frozen=True)
class Plan:
    """What is trained.

    `build` must be called when torch's generator has the seed, because it draws the initial weights. It then adds to `notes`
    what it built. `network` is the name of a network that is not of this package's blocks, and `spec` that of the data.
    """

    build: Callable[[], nn.Module]
    recipe: Recipe
    data: Data
    spec: str
    network: NamedNetwork | None
    seed: int
    out: Path
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """What a training runs with, after every `auto` was decided by what is there."""

    device: str
    precision: Precision
    threads: int
    workers: int

    @property
    def row(self) -> dict[str, Any]:
        """What the result of a training says of them."""
        from fbnetv3.device import device_words

        return {"device": device_words(self.device), "precision": self.precision, "threads": self.threads}

    def notes(self) -> list[str]:
        """Return a line for the user, or none for a plain training on the CPU."""
        if self.device == "cpu" and self.precision == "fp32":
            return []
        counts = (
            f"{count} {what}{'' if count == 1 else 's'}"
            for count, what in ((self.threads, "thread"), (self.workers, "reader"))
        )
        return [f"training on {self.row['device']}, {self.precision}, {', '.join(counts)}"]


def find_settings(device: str, precision: str, threads: str, workers: str) -> Settings:
    """Return what the options of these names mean on this machine."""
    from fbnetv3.device import find_count, find_device, find_precision

    device = find_device(device)
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    return Settings(
        device,
        find_precision(precision, device),
        find_count("--threads", threads, device, on_cpu=1, sharing=sharing),
        find_count("--workers", workers, device, on_cpu=0, sharing=sharing),
    )


def changes(texts: list[str] | None) -> dict[str, Any]:
    """Return the changes that `--set` asks for."""
    from fbnetv3.schema import parse_scalar

    for text in texts or ():
        if "=" not in text:
            raise InputError(f"--set {quote(text)}; give FIELD=VALUE")
    return {key: parse_scalar(value) for key, _, value in (text.partition("=") for text in texts or ())}


def adapt(recipe: Recipe, changed: dict[str, Any], scale_lr: str | None, notes: list[str]) -> Recipe:
    """Return a recipe with the changes of `--set` and `--scale-lr`.

    If the batch has another size and the learning rate is the recipe's, a note says what the usual rules make of it.
    """
    from fbnetv3.training.recipe import LR_SCALES

    new = recipe.replace(**changed)
    if scale_lr is None:
        if new.batch_size != recipe.batch_size and "lr" not in changed:
            rates = (f"{rule} makes it {recipe.at_batch_size(new.batch_size, rule).lr:g}" for rule in LR_SCALES)
            notes.append(
                f"batch_size is {new.batch_size} instead of {recipe.batch_size}, and the learning rate stays {new.lr:g}; "
                f"--scale-lr {', --scale-lr '.join(rates)}"
            )
        return new
    if "lr" in changed or "batch_size" not in changed:
        raise InputError(
            "--scale-lr changes the recipe's learning rate with the batch; give it with --set batch_size=N, without --set lr"
        )
    new = new.replace(batch_size=recipe.batch_size).at_batch_size(new.batch_size, scale_lr)
    what = f"batch_size {recipe.batch_size} became {new.batch_size}"
    notes.append(f"{what}, and the learning rate {recipe.lr:g} became {new.lr:g} (--scale-lr {scale_lr})")
    return new


def plan_of_pair(
    pair: Path,
    data: str | None,
    out_dir: Path | None,
    seed: int | None,
    changed: dict[str, Any],
    options: dict[str, Any],
    scale_lr: str | None = None,
) -> Plan:
    """Return what is trained for a pair file. The arguments are the options of the command."""
    from fbnetv3.model import build_model
    from fbnetv3.pair_file import load_pair, named_data
    from fbnetv3.training.data.load import image_side, load_data

    given = load_pair(pair)
    notes: list[str] = []
    recipe = adapt(given.recipe, changed, scale_lr, notes)
    spec = named_data(given) if data is None else data
    options["resolution"] = options["resolution"] or image_side(spec, given.arch.resolution)
    images = load_data(spec, **options)
    seed = given.provenance.get("training_seed", given.seed) if seed is None else seed

    def build() -> nn.Module:
        return build_model(
            given.arch, len(images.classes), images.transforms.in_chans, recipe.dropout, recipe.stochastic_depth
        )

    return Plan(build, recipe, images, spec, None, seed, out_dir or pair.parent / "retrained", notes)


def plan_of_recipe(
    model: str | None,
    recipe: str | None,
    data: str | None,
    out_dir: Path | None,
    seed: int | None,
    changed: dict[str, Any],
    options: dict[str, Any],
    weights: str | None = None,
    scale_lr: str | None = None,
) -> Plan:
    """Return what is trained for a network and a recipe. The arguments are the options of the command.

    With weights, the training starts from them: with their preprocessing, and a new classifier if the classes are others. The
    recipe is then by default the one for fine-tuning on so many images.
    """
    from fbnetv3.hub.load import fill, load_weights
    from fbnetv3.networks.named import find_network
    from fbnetv3.recipes import fine_tuning_recipe, load_recipe
    from fbnetv3.training.data.load import load_data
    from fbnetv3.training.network.depth import freeze_stages

    needed = {"--model": model or weights, "--recipe": recipe or weights, "--data": data, "--out": out_dir}
    if data is None or out_dir is None or None in needed.values():
        missing = ", ".join(name for name, value in needed.items() if value is None)
        ways = "--weights with --data" if weights else "--pair, or --model, --recipe, --data"
        raise InputError(f"{missing} missing; give {ways} and --out")
    notes = list[str]()
    given = None if recipe is None else load_recipe(recipe)  # before the images: a wrong name is told at once
    if model is not None:
        find_modules_here(model)
    start = None if weights is None else load_weights(model, weights)
    if start is not None:
        options |= _preprocessing(start, data, options["resolution"])
        notes.append(f"starting from {weights}: {start.arch.name}, {start.num_classes} classes")
    images = load_data(data, **options)
    if given is None:
        count = images.count("train")
        default = fine_tuning_recipe(count)
        given = load_recipe(default)
        notes.append(f"recipe: {default}, for fine-tuning on {count:,} images")
    chosen = adapt(given, changed, scale_lr, notes)
    network = find_network(model or "") if start is None else start.arch

    def make() -> nn.Module:
        new = _new_network(network, chosen, images, notes)
        if start is not None:
            fill(new, start)
        if chosen.frozen_stages:
            notes.append(f"frozen: {freeze_stages(new, chosen.frozen_stages)}")
        return new

    named = None if isinstance(network, Arch) else network
    return Plan(make, chosen, images, data, named, SEED if seed is None else seed, out_dir, notes)


def _preprocessing(file: WeightFile, spec: str, resolution: int | None) -> dict[str, Any]:
    """Return the options with which images are loaded as weights need them. Images in memory keep their own preprocessing."""
    from fbnetv3.training.data.load import image_side

    side = resolution or image_side(spec, file.transforms.crop)
    transforms = {"transforms": file.transforms.at(side)} if side and not spec.startswith("memory:") else {}
    return {"resolution": side, **transforms}


def _new_network(network: Arch | NamedNetwork, recipe: Recipe, images: Data, notes: list[str]) -> nn.Module:
    """Return a network with new weights, and the dropout and stochastic depth of a recipe; add what was built to the notes."""
    from fbnetv3.model import build_model
    from fbnetv3.training.network.factory import build

    classes, in_chans = len(images.classes), images.transforms.in_chans
    if isinstance(network, Arch):
        model: nn.Module = build_model(network, classes, in_chans, recipe.dropout, recipe.stochastic_depth)
        return model
    built = build(network.name, recipe, classes, in_chans, **network.arguments)
    notes.append(built.summary())
    return built.model


def find_modules_here(model: str) -> None:
    """Let the module of a custom network, `MODULE:CALLABLE`, be a file of the current directory."""
    from fbnetv3.networks.named import SOURCES

    if ":" in model and model.partition(":")[0] not in SOURCES:
        # Python itself looks for modules in the current directory only if it is started with `python -m`.
        sys.path.insert(0, str(Path.cwd()))


def load_teacher(text: str | None, plan: Plan) -> nn.Module | None:
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
    file = _teacher_weights(text)
    has, needs = (file.num_classes, file.transforms.in_chans), (len(plan.data.classes), plan.data.transforms.in_chans)
    if has != needs:
        raise InputError(
            f"--teacher {text} has {has[0]} classes and {has[1]} channels, but the data has {needs[0]} and {needs[1]}; give a "
            "teacher for this data"
        )
    return file.build()


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
