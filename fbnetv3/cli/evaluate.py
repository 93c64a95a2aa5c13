"""`fbnetv3 evaluate` and `fbnetv3 check-data`: measuring weights on images, and reading all images of a set."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fbnetv3
from fbnetv3.cli.networks import MODEL_NAMES, weight_file
from fbnetv3.cli.show import (
    DEVICE,
    ON_BAD_IMAGE,
    Json,
    Overwrite,
    err,
    print_rows,
    progress_bar,
    say,
    say_device,
)
from fbnetv3.cli.training_plan import find_modules_here
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from fbnetv3.evaluation.measures import Evaluation
    from fbnetv3.evaluation.speed import Speed
    from fbnetv3.networks.weight_file import WeightFile
    from fbnetv3.training.data.protocol import Data
    from fbnetv3.transforms import Transforms

ALL = "all"  # the split of a set without splits
MOST_ROWS = 20  # classes in the table on the screen

DataOption = Annotated[str, typer.Option(help="Images to measure on, as `fbnetv3 train` takes them.")]
Readers = Annotated[int, typer.Option(min=0, help="Number of processes that read images.")]


def evaluate(
    weights: Annotated[
        str,
        typer.Argument(help="Weight file, such as weights.pt of a training; a URL; or a released source such as fb."),
    ],
    data: DataOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network of the weights, if they do not describe it: fbnetv3_a, timm:NAME, torchvision:NAME, or "
            "MODULE:CALLABLE.",
            autocompletion=MODEL_NAMES,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, test, or all: every image of a set without splits, such as a folder of CLASS/IMAGE. The default "
            "is test, or else val."
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the images in pixels, if the file does not say it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of images of every class.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for report.html (with the worst pictures), metrics.json, and the plots as PNG."
        ),
    ] = None,
    speed: Annotated[bool, typer.Option(help="Measure latency and throughput of the network too.")] = True,
    workers: Annotated[
        str, typer.Option(help="Number of processes that read images. auto is 0 on the CPU, and up to 8 for a GPU.")
    ] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    on_bad_image: Annotated[str, typer.Option(help=ON_BAD_IMAGE)] = "skip",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure weights on any images: accuracy, loss, every class, confusions, calibration, worst mistakes, and speed."""
    from fbnetv3.device import find_count, find_device
    from fbnetv3.evaluation.files import as_data, refuse_files, write_evaluation
    from fbnetv3.files import lock_folder

    device = find_device(device)
    readers = find_count("--workers", workers, device, on_cpu=0)
    options: dict[str, Any] = {"limit": limit, "workers": readers, "on_bad_image": on_bad_image}
    options["hold_out"] = split != ALL
    if out is not None:
        refuse_files(out, overwrite)
    say_device("evaluating", device)
    # The folder is made before the work, and removed again if nothing comes of it.
    with lock_folder(out, "evaluation") if out is not None else contextlib.nullcontext():
        file, images = _load(model, weights, data, resolution, options)
        facts, found, times = _measure(file, images, weights, data, split, device, speed)
        if out is not None:
            page = write_evaluation(out, found, times, facts, overwrite=overwrite)
    if as_json:
        print_rows([as_data(found, times, facts)], as_json)
    else:
        _print(found, times, facts)
        if out is not None:
            say(f"Report: {page}")


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


def _load(
    model: str | None, weights: str, spec: str, resolution: int | None, options: dict[str, Any]
) -> tuple[WeightFile, Any]:
    """Return weights, and the images with their preprocessing. A file that says nothing of it gets that of the data."""
    from fbnetv3.training.data.load import load_data

    plain: list[Data] = []

    def of_the_data() -> tuple[tuple[str, ...], Transforms]:
        plain.append(load_data(spec, resolution=resolution, **options))
        return plain[0].classes, plain[0].transforms

    if model is not None:
        find_modules_here(model)
        model = model.removeprefix("fbnetv3:")
    file = weight_file(model, weights, None, None, of_the_data)
    if plain:
        return file, plain[0]
    if resolution not in (None, file.transforms.crop):
        raise InputError(f"{weights} is for images of {file.transforms.crop} pixels; leave out --resolution")
    return file, _prepared(spec, file, options)


def _measure(
    file: WeightFile, images: Any, weights: str, spec: str, split: str | None, device: str, speed: bool
) -> tuple[dict[str, Any], Evaluation, Speed | None]:
    """Return what was measured on what, the numbers of the pass, and the times of the network."""
    import torch

    from fbnetv3.evaluation.classes import match_classes
    from fbnetv3.evaluation.one_pass import evaluate
    from fbnetv3.evaluation.speed import BATCH, measure_speed
    from fbnetv3.layers import use_channels_last
    from fbnetv3.progress import show_progress
    from fbnetv3.training.accuracy import final_split

    match = match_classes(weights, file.classes, spec, images.classes)
    if match.note:
        say(f"fbnetv3: note: {match.note}", err)
    shown = split or final_split(images)
    split = _only_split(images, spec) if shown == ALL else shown
    count, place, transforms = images.count(split), torch.device(device), images.transforms
    # The layout of the images, and of the training.
    network = use_channels_last(file.build().to(place))
    # Ctrl-C needs no words: nothing is kept.
    with show_progress(err) as report:
        found = evaluate(
            network, images, split, classes=match.classes, labels=match.labels, device=place, report=report
        )
        times = None
        if speed:
            report(count, count, "timing the network")
            times = measure_speed(network, transforms.in_chans, transforms.crop, place, min(BATCH, count))
    left = len(images.bad.met.get(split, ()))
    facts: dict[str, Any] = {"network": file.arch.name, "weights": weights, "data": spec, "split": shown}
    facts |= {"left_out": left} if left else {}
    facts |= {"image_side": transforms.crop, "data_id": images.name, "device": device}
    facts |= {"fbnetv3": fbnetv3.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return facts, found, times


def _only_split(images: Any, spec: str) -> str:
    """Return the split that has all images of a set without splits."""
    names = list(getattr(images, "splits", ("train", "val", "test")))  # images in memory have all three
    if len(names) > 1:
        raise InputError(
            f"--split {ALL} is for a set without splits, but {spec} has {', '.join(names)}; give one of them"
        )
    return str(names[0])


def _print(found: Evaluation, speed: Speed | None, facts: dict[str, Any]) -> None:
    """Print the numbers of all images, of the classes, and the times."""
    from fbnetv3.evaluation.page import CLASS_HEAD, SPEED_HEAD, by_f1, class_cells, speed_rows, without_images

    row: dict[str, Any] = {"split": facts["split"], "images": found.images}
    row |= {"acc1": f"{found.acc1:.2f}", "95% interval": "{:.1f} to {:.1f}".format(*found.acc1_interval)}
    row |= {} if found.acc5 is None else {"acc5": f"{found.acc5:.2f}"}
    row |= {
        "loss": f"{found.loss:.4f}",
        "mean recall": f"{found.balanced_acc1:.2f}",
        "mean F1": f"{found.macro_f1:.2f}",
    }
    row |= {"calibration error": f"{found.ece:.2f}"}
    print_rows([row | ({"left_out": facts["left_out"]} if "left_out" in facts else {})], False)
    classes = by_f1(found)
    if len(classes) > MOST_ROWS:
        say(f"The {MOST_ROWS} of {len(classes)} classes with the lowest F1 (--json and --out have all):")
    print_rows([dict(zip(CLASS_HEAD, class_cells(row), strict=True)) for row in classes[:MOST_ROWS]], False)
    if bare := without_images(found):
        say(bare)
    if speed is not None:
        say(f"The network alone on {speed.device}, {speed.side} x {speed.side} pixels, float32:")
        print_rows([dict(zip(SPEED_HEAD, cells, strict=True)) for cells in speed_rows(speed)], False)


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
