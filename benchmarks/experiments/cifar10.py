"""CIFAR-10 by the protocol of section 4.3: accuracy against FLOPs of FBNetV3, EfficientNet and ResNet (Figure 7).

The benchmark trains every network with every seed, and estimates how long the trainings of the whole figure take. Every
training has a folder below --runs: stop the command at any moment, and the same command continues. With --plot and without
--data it draws a result that exists. docs/cifar10.md says what the committed result shows. There is no target: the paper
does not give the points of its figure as numbers.
"""

from __future__ import annotations

import functools
import io
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import nn

from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.command import Device, Runs, Seeds, Threads
from fbnetv3.benchmarks.experiments.cifar10_networks import Network, count_flops, find_network
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result, device_facts
from fbnetv3.benchmarks.statistics import over_seeds
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.device import find_device
from fbnetv3.errors import InputError
from fbnetv3.layers import use_channels_last
from fbnetv3.progress import Report, labelled, show_progress
from fbnetv3.recipes import load_recipe
from fbnetv3.training.accuracy import measure as evaluate
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.engine import Engine, cpu_threads, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe

FULL_RECIPE = "cifar10/fbnetv3_proxy"
# The networks of a plot like Figure 7. The paper does not list those of its figure.
FIGURE = (*ARCHS, *(f"timm:tf_efficientnet_b{i}" for i in range(5)), *(f"torchvision:resnet{n}" for n in (18, 34, 50)))
TIMED_STEPS = 4
FULL_IMAGES = 45_000  # CIFAR-10's training images without the tenth that is held out
METHOD = (
    "Section 4.3's protocol: base input 32 x 32, larger for larger networks by the ratio of their ImageNet inputs, the "
    "second stride-two layer with stride one, no distillation; baselines likewise, with the same recipe, whose schedule ends "
    "with the last of `epochs`. `seeds`: top-1 on the test split, in percent, of the weights after the last epoch; `deviation` "
    "is the sample standard deviation over seeds. `flops`: multiply-adds of convolutions and linear layers as fvcore counts "
    "them on the built network, without pooling and norms, whose count depends on how an implementation spells them; "
    "`params`: all parameters. `full_run`: training images a second, the median of a few optimizer steps without evaluation, "
    f"with the threads of this run; `hours` are an estimate from it, for one seed of {FULL_RECIPE} on the {FULL_IMAGES:,} "
    "images that are left when a tenth is held out.{subset}{jpeg}"
)
SUBSET = (
    " A run on {train} training images for {epochs} epochs and tested on {test}: it shows that the harness runs, not which "
    "network is better, because short trainings on few images rank networks differently from full ones."
)
JPEG = " The images were stored as JPEG, which is lossy: accuracies are not comparable with those on the original CIFAR-10."
NETWORK_COLUMNS: dict[str, Format] = {
    "network": "`{name}`",
    "pixels": "{resolution}",
    "M multiply-adds": lambda row: f"{row['flops'] / 1e6:.1f}",
    "M params": lambda row: f"{row['params'] / 1e6:.2f}",
}
COLUMNS: dict[str, Format] = NETWORK_COLUMNS | {
    "test top-1 (%)": "{mean:.2f}",
    "std": "{deviation:.2f}",
    "n": "{n}",
}
FULL_COLUMNS: dict[str, Format] = {
    "network": "`{name}`",
    "pixels": "{resolution}",
    "images/s": "{images_per_s:.0f}",
    "hours per seed (estimate)": "{hours:.0f}",
}


def measure(
    data: Annotated[str, typer.Option(help="Images to train on, as `fbnetv3 train` takes them.")],
    models: Annotated[
        tuple[str, ...], typer.Option(metavar="MODEL ...", help="Networks: fbnetv3_a, timm:NAME, torchvision:NAME.")
    ] = FIGURE,
    recipe: Annotated[str, typer.Option(help="Recipe of all trainings; it must not distil.")] = FULL_RECIPE,
    seeds: Seeds = (0, 1, 2),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of images of every class in every split; by default all.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the whole schedule; by default those of the recipe.")
    ] = None,
    threads: Threads = 1,
    device: Device = "auto",
    runs: Runs = Path("runs") / "cifar10",
) -> Measured:
    """Train and measure every network with every seed. What a stopped run has finished is not trained again."""
    if not models or not seeds:
        raise InputError("give at least one model and one seed")
    device, schedule = find_device(device), read_recipe(recipe, epochs)
    networks = [find_network(name) for name in models]  # a wrong name fails here, before the first training

    @functools.lru_cache(maxsize=1)  # networks of one size follow each other; more than one set may not fit into memory
    def load(side: int) -> Data:
        return load_data(data, resolution=side, limit=limit)

    rows: Values = {}
    console = Console(stderr=True)  # text that is printed to it appears above the bar
    with cpu_threads(threads), show_progress(console) as report:
        for network in networks:
            images, accuracies = load(network.resolution), {}
            for seed in seeds:
                name, folder = f"{network.name}, seed {seed}", runs / network.name.replace(":", "_") / f"seed{seed}"
                accuracies[seed] = train(network, schedule, images, seed, folder, device, labelled(report, name))
                console.print(f"{name}: {accuracies[seed]:.2f}% on test", markup=False, highlight=False)
            flops, params = count_flops(network, len(images.classes))
            rows[network.name] = {
                "resolution": network.resolution,
                "flops": flops,
                "params": params,
                **over_seeds(accuracies, std_of_one=0.0),
            }
        full = full_run(device, report)
    values = {
        "networks": rows,
        "full_run": full,
        "data": {split: images.count(split) for split in ("train", "val", "test")} | {"jpeg": is_jpeg(data)},
        "training": {"recipe": recipe, "epochs": schedule.epochs, "threads": threads},
    }
    return Measured(values, method_words(values), device_facts(device))


def read_recipe(name: str, epochs: int | None) -> Recipe:
    """Return a recipe with its schedule over the given epochs.

    Raises:
        InputError: the recipe distils, which section 4.3 does not do, or the epochs do not suit it.
    """
    recipe = load_recipe(name)
    if recipe.distillation:
        raise InputError(f"recipe {name} distils, which section 4.3 does not do; give another recipe")
    return recipe if epochs is None else recipe.replace(epochs=epochs)


def train(
    network: Network, recipe: Recipe, data: Data, seed: int, out: Path, device: str, report: Report | None = None
) -> float:
    """Train one network with one seed, from where the folder `out` stands, and return its top-1 on test in percent.

    Raises:
        InputError: `out` holds another training, or the data have no test split.
    """
    data.count("test")  # without a test split this fails before the training
    # The same seed draws the weights and the training: with equal seeds networks see equal batches.
    model = seeded(lambda: network.build(len(data.classes), recipe), seed)
    trained = fit(model, recipe, data, seed=seed, out=out, resume=True, progress=report, engine=Engine(device=device))
    return evaluate(trained.model, data, "test", device=torch.device(device)).acc1


def full_run(device: str, report: Report) -> Values:
    """Return the hours that one seed of every network of `FIGURE` would take: an estimate from a few steps of each."""
    # The hours depend on the network and the machine, not on what this run trained, so they are estimated in every run.
    recipe, rows = load_recipe(FULL_RECIPE), {}
    for i, name in enumerate(FIGURE):
        report(i, len(FIGURE), f"timing steps of {name}")
        network = find_network(name)
        speed = images_per_second(network.build(10, recipe), recipe, 10, network.resolution, device)
        hours = recipe.epochs * FULL_IMAGES / speed / 3600
        rows[network.name] = {
            "resolution": network.resolution,
            "flops": count_flops(network, 10)[0],
            "images_per_s": round(speed, 1),
            "hours": round(hours, 1),
        }
    total = round(sum(row["hours"] for row in rows.values()), 1)
    return {"epochs": recipe.epochs, "images": FULL_IMAGES, "hours": total, "networks": rows}


def images_per_second(model: nn.Module, recipe: Recipe, classes: int, side: int, device: str) -> float:
    """Return the training images per second: the median of `TIMED_STEPS` optimizer steps on random images."""
    use_channels_last(model.to(device)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    # Images of noise: reading and augmenting are not part of this estimate.
    x = torch.randn(recipe.batch_size, 3, side, side, generator=generator).to(device, memory_format=torch.channels_last)
    labels = torch.randint(classes, (recipe.batch_size,), generator=generator).to(device)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits until the device has finished the step
        seconds.append(time.perf_counter() - start)
    return recipe.batch_size / statistics.median(seconds[1:])  # the first step allocates


def is_jpeg(spec: str) -> bool:
    """Whether the data are a folder of JPEG files. Data sets of torchvision hold the original images."""
    folder = Path(spec.removeprefix("memory:")).expanduser()
    return any(path.suffix.lower() in (".jpg", ".jpeg") for path in folder.glob("train/*/*"))


def method_words(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what `METHOD` adds for a run on a part of the data or on JPEG files: its numbers mean less."""
    data, epochs = values["data"], values["training"]["epochs"]
    full = data["train"] >= FULL_IMAGES and epochs >= values["full_run"]["epochs"]
    subset = "" if full else SUBSET.format(train=data["train"], test=data["test"], epochs=epochs)
    return {"subset": subset, "jpeg": JPEG if data["jpeg"] else ""}


def tables(result: Result) -> dict[str, Table]:
    """Return the networks that were trained, and what a full run takes."""
    trained, full = result.values["networks"], result.values["full_run"]
    return {
        "trained networks": Table.of(COLUMNS, ({"name": name, **row} for name, row in trained.items())),
        f"a full run: {full['hours']:.0f} hours for one seed of all networks": Table.of(
            FULL_COLUMNS, ({"name": name, **row} for name, row in full["networks"].items())
        ),
    }


def plot(result: Result) -> bytes:
    """Return a PNG of accuracy against FLOPs: a line per family of networks, with bars of one std over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.8, 3.6), dpi=160, layout="constrained")
    axes = figure.add_subplot(
        xlabel="multiply-adds of convolutions and linear layers (M)", ylabel="CIFAR-10 test accuracy (%)"
    )
    families: dict[str, list[Values]] = {}
    for name, row in result.values["networks"].items():
        families.setdefault(family(name), []).append(row)
        axes.annotate(
            name.partition(":")[2] or name,
            (row["flops"] / 1e6, row["mean"]),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=7,
        )
    for label, rows in families.items():
        x, y, bars = zip(*sorted((row["flops"] / 1e6, row["mean"], row["deviation"]) for row in rows), strict=True)
        axes.errorbar(x, y, yerr=bars, marker="o", markersize=4, capsize=2, label=label)
    data, training = result.values["data"], result.values["training"]
    kept = ", JPEG" if data["jpeg"] else ""
    axes.set_title(f"{data['train']:,} training images{kept}, {training['epochs']} epochs", fontsize=9)
    axes.margins(x=0.15, y=0.1)  # room for the names
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # equal results give equal files
    return buffer.getvalue()


def family(name: str) -> str:
    """Return the family of a network: FBNetV3, EfficientNet or ResNet. Any other network is a family of its own."""
    # The name of a baseline contains its family: timm:tf_efficientnet_b0, torchvision:resnet18.
    known = {"fbnetv3": "FBNetV3", "efficientnet": "EfficientNet", "resnet": "ResNet"}
    return next((label for key, label in known.items() if key in name), name)


BENCHMARK = Benchmark(
    "cifar10",
    METHOD,
    ("torch", "torchvision", "timm", "fvcore", "pillow", "numpy"),
    measure,
    tables=tables,
    plot=plot,
)
