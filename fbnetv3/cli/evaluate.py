"""`fbnetv3 evaluate` and `fbnetv3 check-data`: measuring saved weights on images, and reading all images of a set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.networks import MODEL_NAMES
from fbnetv3.cli.show import DEVICE, ON_BAD_IMAGE, Json, print_rows, progress_bar, say_device
from fbnetv3.cli.training_plan import find_modules_here
from fbnetv3.errors import InputError, quote

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.networks.weight_file import WeightFile
    from fbnetv3.training.data.protocol import Data

DataOption = Annotated[str, typer.Option(help="Images to measure on, as `fbnetv3 train` takes them.")]
Readers = Annotated[int, typer.Option(min=0, help="Number of processes that read images.")]


def evaluate(
    weights: Annotated[str, typer.Argument(help="Weight file, such as weights.pt of a training; or a URL.")],
    data: DataOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network of the weights, if the file does not describe it: fbnetv3_a, timm:NAME, torchvision:NAME, or "
            "MODULE:CALLABLE.",
            autocompletion=MODEL_NAMES,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. The default is test, or else val.")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the images in pixels, if the file does not say it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of images of every class.")] = None,
    workers: Annotated[
        str, typer.Option(help="Number of processes that read images. auto is 0 on the CPU, and up to 8 for a GPU.")
    ] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    on_bad_image: Annotated[str, typer.Option(help=ON_BAD_IMAGE)] = "skip",
    as_json: Json = False,
) -> None:
    """Measure saved weights on any images: top-1 and top-5 accuracy, as `fbnetv3 train` measures them at its end."""
    import torch

    from fbnetv3.device import find_count, find_device
    from fbnetv3.layers import use_channels_last
    from fbnetv3.training.accuracy import final_split, measure

    device = find_device(device)
    say_device("evaluating", device)
    readers = find_count("--workers", workers, device, on_cpu=0)
    options: dict[str, Any] = {"limit": limit, "workers": readers, "on_bad_image": on_bad_image}
    if model is not None:
        find_modules_here(model)
    if model is None or _is_ours(model) or _describes_itself(weights):
        network, images = _described(model, weights, data, resolution, options)
    else:
        network, images = _foreign(model, weights, data, resolution, options)
    chosen = split or final_split(images)
    # The layout of the images, and of the training.
    use_channels_last(network.to(device))
    accuracy = measure(network, images, chosen, device=torch.device(device))
    row = {"split": chosen, "images": accuracy.images, "acc1": accuracy.acc1, "acc5": accuracy.acc5}
    left = len(images.bad.met.get(chosen, ()))
    print_rows([row | ({"left_out": left} if left else {})], as_json)


def check_data(
    data: Annotated[str, typer.Argument(help="Images, as `fbnetv3 train --data` takes them.")],
    workers: Readers = 0,
    as_json: Json = False,
) -> None:
    """Read every image of a set. Those that cannot be read are listed, and then the exit code is 2."""
    from fbnetv3.training.data.check import find_bad_images
    from fbnetv3.training.data.load import load_data

    # Not in memory: there the first image that cannot be read would end the command.
    images = load_data(data.removeprefix("memory:"), workers=workers)
    with progress_bar() as progress:
        bad = find_bad_images(images, progress)
    rows = [{"split": image.split, "image": image.name, "reason": image.reason} for image in bad]
    if rows or as_json:
        print_rows(rows, as_json)
    if rows:
        raise InputError(
            f"{len(rows)} images of {data} cannot be read; repair or remove them, or train with --on-bad-image skip"
        )


def _is_ours(model: str) -> bool:
    """Whether a name is one of an architecture of this package, whose weights `load_weights` reads."""
    from fbnetv3.arch import find_arch

    try:
        return find_arch(model.removeprefix("fbnetv3:")) is not None
    except InputError:
        return False


def _describes_itself(weights: str) -> bool:
    """Whether a file says which network its weights are of."""
    from fbnetv3.networks.weight_file import read_tensors

    return Path(weights).is_file() and read_tensors(weights)[1] is not None


def _described(
    model: str | None, weights: str, spec: str, resolution: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Any]:
    """Return the network that a weight file describes, and the images with the preprocessing of its weights."""
    from fbnetv3.hub.load import load_weights

    file = load_weights(None if model is None else model.removeprefix("fbnetv3:"), weights)
    if resolution not in (None, file.transforms.crop):
        raise InputError(f"{weights} is for images of {file.transforms.crop} pixels; leave out --resolution")
    images = _prepared(spec, file, options)
    if file.classes != images.classes:
        raise InputError(
            f"{weights} has the classes {quote(file.classes)}, but {spec} has {quote(images.classes)}; give the data of its "
            "classes. For ImageNet's: fbnetv3 benchmark imagenet"
        )
    return file.build(), images


def _prepared(spec: str, file: WeightFile, options: dict[str, Any]) -> Any:
    """Return images with the preprocessing of weights, whatever that of the data would be."""
    from fbnetv3.training.data.load import load_data
    from fbnetv3.training.data.packaged import DATA

    transforms = file.transforms
    if spec not in DATA:
        # Images in memory are not cropped again. Read from their files, they give the same pixels.
        spec = spec.removeprefix("memory:")
        return load_data(spec, resolution=transforms.crop, transforms=transforms, **options)
    images = load_data(spec, **options)
    sizes = (images.transforms.crop, images.transforms.in_chans)
    if sizes != (transforms.crop, transforms.in_chans):
        raise InputError(
            f"the weights are for {transforms.in_chans} channels of {transforms.crop} pixels, but {spec} has {sizes[1]} of "
            f"{sizes[0]}; give the data that they were trained for"
        )
    return dataclasses.replace(images, mean=transforms.mean[0], std=transforms.std[0])  # type: ignore[type-var]


def _foreign(
    model: str, weights: str, spec: str, resolution: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Any]:
    """Return a network of another library or a custom one, with weights that do not describe it, and the images."""
    import torch

    from fbnetv3.networks.weight_file import check_finite, check_state, read_tensors
    from fbnetv3.training.data.load import load_data
    from fbnetv3.training.network.factory import build
    from fbnetv3.training.recipe import Recipe

    images: Data = load_data(spec, resolution=resolution, **options)
    # Dropout and stochastic depth change neither the names of the weights nor an evaluation, so any recipe will do.
    network = build(model, Recipe("sgd", 0.1, 1, 2), len(images.classes), images.transforms.in_chans).model
    state, _ = read_tensors(weights)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{weights} holds {quote(state)}, not a state dict; give the weights of a training")
    check_state(state, network.state_dict(), model)
    # Only the parameters: a custom network may hold infinities elsewhere, in a mask for example.
    check_finite({name: state[name] for name, _ in network.named_parameters()}, f"the weights in {weights}")
    network.load_state_dict(state)
    return network, images
