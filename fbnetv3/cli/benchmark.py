"""`fbnetv3 benchmark`: a network on a data set that others report on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.cli.show import Json, print_rows, progress_bar
from fbnetv3.cli.zoo import Model, Pair, WeightsOption, Zoo, weight_file

app = typer.Typer(no_args_is_help=True, help="Benchmarks on known data sets.")


@app.callback()
def _group() -> None:
    """Keep `imagenet` a command of its own beside others to come."""


@app.command()
def imagenet(
    data: Annotated[Path, typer.Option(help="ImageNet: val/CLASS/PICTURE, CLASS a synset or a number.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    per_class: Annotated[Path | None, typer.Option(help="CSV file to write, a line a class.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 of weights with their own preprocessing, and images a second."""
    from fbnetv3.benchmarks.imagenet import evaluate, val_pictures, write_classes
    from fbnetv3.classifier import class_names

    pictures = val_pictures(data)
    file = weight_file(model, weights, pair, zoo)
    with progress_bar() as progress:
        found = evaluate(
            file.build().to(device), file.transforms, pictures, workers=workers, device=device,
            names=class_names(file.classes), progress=lambda done, total: progress(done, total, "images"),
        )  # fmt: skip
    if per_class is not None:
        write_classes(per_class, found)
    row = {
        "network": file.arch.name,
        "images": found.images,
        "acc1": round(found.acc1, 3),
        "acc5": round(found.acc5, 3),
        "network images/s": round(found.network_images_per_s, 1),
        "images/s": round(found.images_per_s, 1),
    }
    print_rows([row], as_json)
