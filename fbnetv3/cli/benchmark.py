"""`fbnetv3 benchmark`: networks on data sets that others report on, the paper's experiments, and speeds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from fbnetv3.cli.detection import coco
from fbnetv3.cli.show import Json, print_rows, progress_bar
from fbnetv3.cli.zoo import Model, Pair, WeightsOption, Zoo, weight_file

app = typer.Typer(no_args_is_help=True, help="Benchmarks: known data sets, the paper's experiments, speeds.")


class Mounted(NamedTuple):
    """A command that a module of `fbnetv3.benchmarks` parses itself: its `main` gets the arguments."""

    name: str
    module: str
    help: str


MOUNTED = (
    Mounted("cifar10", "experiments.cifar10", "Section 4.3's protocol on CIFAR-10: accuracy against FLOPs."),
    Mounted(
        "experiment",
        "experiments.experiment",
        "An experiment of the paper by its name: train, compare, write the result.",
    ),
    Mounted("data-speed", "speed.data", "Speed of images in memory against pictures through a DataLoader."),
    Mounted("loop-speed", "speed.training_loop", "Speed of the training loop against one of timm's parts."),
    Mounted("inference", "speed.inference", "Speed of inference against timm's, by path."),
    Mounted("parallel", "speed.executors", "Parallel efficiency of the search's executors with two workers."),
    Mounted("cost-speed", "speed.costs", "Speed of the closed-form costs against fvcore."),
    Mounted("latency", "search.latency", "The latency table's sums against whole networks."),
    Mounted("predictor", "search.predictor", "The accuracy predictor against its rivals; Figure 4."),
    Mounted("evolution", "search.evolution", "The evolutionary search on landscapes whose best is known."),
    Mounted("finalists", "search.finalists", "What training the finalists gains, on accuracies that are known."),
    Mounted("micro-trainings", "search.micro_trainings", "A small table of real trainings of the quickstart's space."),
    Mounted("quickstart", "search.quickstart", "The quickstart of this version against that of an earlier one."),
    Mounted("regenerate", "search.zoo", "A zoo from nothing at the scale of this machine."),
    Mounted("zoo-cost", "paper.zoo_cost", "FLOPs and parameters of A to G on the built networks."),
    Mounted("space-sizes", "paper.space_sizes", "Sizes of the search spaces."),
    Mounted("detection-cost", "coco.cost", "The cost columns of Table 5. Needs detectron2."),
    Mounted(
        "detection-speed", "coco.speed", "Speed of the detector against the same on timm's trunk. Needs detectron2."
    ),
    Mounted("detection-voc100", "coco.voc100", "A detector fine-tuned on 80 photos. Needs detectron2."),
)


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
    from fbnetv3.benchmarks.experiments.imagenet import evaluate, val_pictures, write_classes
    from fbnetv3.classifier import class_names
    from fbnetv3.training.distributed import find_device

    device, pictures = find_device(device), val_pictures(data)
    file = weight_file(model, weights, pair, zoo)
    with progress_bar() as progress:
        found = evaluate(
            file.build().to(device),
            file.transforms,
            pictures,
            workers=workers,
            device=device,
            names=class_names(file.classes),
            progress=lambda done, total: progress(done, total, "images"),
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
    print_rows([row], as_json)


@app.command("imagenet-split")
def imagenet_split(
    data: Annotated[Path, typer.Option(help="ImageNet: train/CLASS/PICTURE.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for train.txt and val.txt.")],
    classes: Annotated[int, typer.Option(min=1, help="Classes, at random.")] = 200,
    held_out: Annotated[int, typer.Option(min=1, help="Images of train that are held out as val.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="The paper's own sample is not published.")] = 0,
    as_json: Json = False,
) -> None:
    """The search's data of section 4 as lists of files: `train --data list:OUT:DATA` trains on them."""
    from fbnetv3.benchmarks.experiments.imagenet import write_search_split

    lists = write_search_split(data, out_dir, classes, held_out, seed)
    print_rows([{"list": str(path), "images": images, "classes": classes} for path, images in lists.items()], as_json)


app.command("coco")(coco)


def _mount(entry: Mounted) -> None:
    """Add the command; its module is imported when it is called, so that the others start fast."""

    def call(context: typer.Context) -> None:
        main: Callable[[list[str]], object] = importlib.import_module(f"fbnetv3.benchmarks.{entry.module}").main
        main(context.args)

    unparsed = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(entry.name, help=entry.help, add_help_option=False, context_settings=unparsed)(call)


for _entry in MOUNTED:
    _mount(_entry)
