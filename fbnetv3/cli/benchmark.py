"""`fbnetv3 benchmark`: the benchmarks of `fbnetv3.benchmarks`, and evaluations on ImageNet and COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fbnetv3.benchmarks.catalogue import CATALOGUE, Entry
from fbnetv3.cli.detection import coco
from fbnetv3.cli.networks import Model, Pair, WeightsOption, Zoo, weight_file
from fbnetv3.cli.show import DEVICE, ON_BAD_IMAGE, Json, Overwrite, print_rows, progress_bar, say_device
from fbnetv3.counts import MAX_SEED
from fbnetv3.files import refuse_to_overwrite

ROOMS = {
    "paper": "Counts: compared with the paper's",
    "experiments": "Accuracy: experiments of the paper",
    "search": "The search and its parts",
    "speed": "Speed: against other software",
    "coco": "Detection: needs detectron2",
    "gpu": "On a GPU",
}
DATA_SETS = "Data sets: evaluation of any weights"

app = typer.Typer(
    no_args_is_help=True, help="Benchmarks: the paper's experiments, the search, speeds, known data sets."
)


@app.command(rich_help_panel=DATA_SETS)
def imagenet(
    data: Annotated[Path, typer.Option(help="Folder with val/CLASS/IMAGE. CLASS is a synset or a number.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    per_class: Annotated[Path | None, typer.Option(help="CSV file to write, with one line per class.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that read images.")] = 2,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    overwrite: Overwrite = False,
    on_bad_image: Annotated[str, typer.Option(help=ON_BAD_IMAGE)] = "skip",
    as_json: Json = False,
) -> None:
    """Evaluate weights on ImageNet with their own preprocessing: top-1, top-5, and images per second."""
    from fbnetv3.benchmarks.experiments.imagenet import evaluate, val_images, write_classes
    from fbnetv3.device import find_device
    from fbnetv3.networks.classifier import class_names
    from fbnetv3.training.data.bad_images import BadImages

    device, images, bad = find_device(device), val_images(data), BadImages(on_bad_image)  # type: ignore[arg-type]
    say_device("evaluating", device)
    if per_class is not None:
        refuse_to_overwrite(per_class, overwrite)
    file = weight_file(model, weights, pair, zoo)
    with progress_bar() as progress:
        found = evaluate(
            file.build().to(device),
            file.transforms,
            images,
            workers=workers,
            device=device,
            names=class_names(file.classes),
            progress=lambda done, total: progress(done, total, "images"),
            bad=bad,
        )
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
    left = len(bad.met.get("val", ()))
    print_rows([row | ({"left_out": left} if left else {})], as_json)


@app.command("imagenet-split", rich_help_panel=DATA_SETS)
def imagenet_split(
    data: Annotated[Path, typer.Option(help="Folder with train/CLASS/IMAGE.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for train.txt and val.txt.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of classes, which are chosen at random.")] = 200,
    held_out: Annotated[
        int, typer.Option(min=1, help="Number of training images that are held out for validation.")
    ] = 10_000,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Seed of the choice. The paper's own sample is not published.")
    ] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the search's data of section 4 as lists of files. `fbnetv3 train --data list:OUT:DATA` trains on them."""
    from fbnetv3.benchmarks.experiments.imagenet import LISTS, write_search_split

    for name in LISTS:
        refuse_to_overwrite(out_dir / name, overwrite)
    lists = write_search_split(data, out_dir, classes, held_out, seed)
    print_rows([{"list": str(path), "images": images, "classes": classes} for path, images in lists.items()], as_json)


app.command("coco", rich_help_panel=ROOMS["coco"])(coco)


def lazy(entry: Entry) -> type[TyperCommand]:
    """Return the class of a command that imports its benchmark when it is called.

    Some benchmarks import timm or torchvision, which takes seconds. The list of commands and all other commands stay fast.
    """

    class LazyCommand(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            """Parse the arguments with the options of the benchmark."""
            from fbnetv3.benchmarks.command import make_command

            return make_command(entry.load()).make_context(info_name, args, parent=parent, **extra)

    return LazyCommand


def placeholder() -> None:
    """Never run: `lazy` puts the command of the benchmark in its place."""


for _name, _entry in CATALOGUE.items():
    app.command(_name, cls=lazy(_entry), help=_entry.about, rich_help_panel=ROOMS[_entry.room])(placeholder)
