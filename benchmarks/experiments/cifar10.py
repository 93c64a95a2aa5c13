"""CIFAR-10 by the protocol of section 4.3: accuracy against FLOPs of FBNetV3 and of baselines in one harness (Figure 7).

    fbnetv3 benchmark cifar10 --data torchvision:cifar10:FOLDER --out FILE.json
    fbnetv3 benchmark cifar10 --out FILE.json --plot FILE.png

The first trains every network with every seed, each in a folder below `--runs` from which the same call goes on after a stop,
writes the result file and prints it as tables; the second, without `--data`, trains nothing: it prints such a file, by default
`results/cifar10.json`, and draws it. docs/cifar10.md says what that file shows.
"""

from __future__ import annotations

import argparse
import functools
import io
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.experiments.cifar10_networks import Network, count_flops, find_network
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, load_result, versions, write_result
from fbnetv3.benchmarks.seeds import spread
from fbnetv3.benchmarks.training_bar import training_bar
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.recipes import load_recipe
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import Data
from fbnetv3.training.loop import Engine, cpu_threads, fit, seeded
from fbnetv3.training.recipe import Recipe

NAME = "cifar10"
FULL_RECIPE = "cifar10/fbnetv3_proxy"
# What a plot like Figure 7, whose networks the paper does not list, would train.
FIGURE = (*ARCHS, *(f"timm:tf_efficientnet_b{i}" for i in range(5)), *(f"torchvision:resnet{n}" for n in (18, 34, 50)))
TIMED_STEPS = 4
FULL_IMAGES = 45_000  # CIFAR-10's train less the tenth that is held out
METHOD = (
    "Section 4.3's protocol: base input 32 x 32, larger for larger networks by the ratio of their ImageNet inputs, the "
    "second stride-two layer with stride one, no distillation; baselines likewise, with the same recipe, whose schedule ends "
    "with the last of `epochs`. `seeds`: top-1 on the test split, in percent, of the weights after the last epoch; `deviation` "
    "is the sample standard deviation over seeds. `flops`: multiply-adds of convolutions and linear layers as fvcore counts "
    "them on the built network, without pooling and norms, whose count depends on how an implementation spells them; "
    "`params`: all parameters. `full_run`: training images a second, the median of a few optimizer steps without evaluation, "
    f"with the threads of this run; `hours` are an estimate from it, for one seed of {FULL_RECIPE} on the {FULL_IMAGES:,} "
    "images that are left when a tenth is held out."
)
SUBSET = (
    " A run on {train} training images for {epochs} epochs and tested on {test}: it shows that the harness runs, not which "
    "network is better, because short trainings on few images rank networks differently from full ones."
)
JPEG = " The images were stored as JPEG, which is lossy: accuracies are not comparable with those on the original CIFAR-10."


@dataclass(frozen=True)
class Settings:
    """What is trained, on what and how; `limit` images of every class in every split, `epochs` None for the recipe's."""

    data: str
    models: tuple[str, ...] = FIGURE
    recipe: str = FULL_RECIPE
    seeds: tuple[int, ...] = (0, 1, 2)
    limit: int | None = None
    epochs: int | None = None
    threads: int = 1
    device: str = "cpu"

    @property
    def trained_recipe(self) -> Recipe:
        """The recipe with its schedule over the epochs of this run.

        Raises:
            InputError: it distils, which section 4.3 does not, or the epochs do not suit it.
        """
        recipe = load_recipe(self.recipe)
        if recipe.distillation:
            raise InputError(f"recipe {self.recipe} distils; the benchmark does not (section 4.3): give another")
        return recipe if self.epochs is None else recipe.replace(epochs=self.epochs)

    @property
    def command(self) -> str:
        """What repeats the run; the place of the data is left out."""
        kind, colon, place = self.data.rpartition(":")
        data = kind + colon + ("FOLDER" if Path(place).expanduser().is_dir() else place)
        words = [f"--data {data}", f"--models {' '.join(self.models)}"]
        words += [f"--recipe {self.recipe}", f"--seeds {' '.join(map(str, self.seeds))}"]
        words += [f"--{key} {value}" for key in ("limit", "epochs") if (value := getattr(self, key)) is not None]
        words += [f"--threads {self.threads}", *([] if self.device == "cpu" else [f"--device {self.device}"])]
        return f"{command_of(NAME)} {' '.join(words)}"


def images_per_second(model: nn.Module, recipe: Recipe, classes: int, side: int, device: str = "cpu") -> float:
    """Training images a second: the median of some optimizer steps on random images, after one to warm up."""
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(recipe.batch_size, 3, side, side, generator=generator).to(device, memory_format=torch.channels_last)
    labels = torch.randint(classes, (recipe.batch_size,), generator=generator).to(device)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return recipe.batch_size / statistics.median(seconds[1:])


def train(
    network: Network,
    settings: Settings,
    data: Data,
    seed: int,
    out: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> float:
    """Train one network with one seed in the folder `out`, going on where it stands, and give its top-1 on test in percent.

    Raises:
        InputError: `out` holds another training, or the data has no test split.
    """
    data.count("test")
    recipe, classes = settings.trained_recipe, len(data.classes)
    model = seeded(lambda: network.build(classes, recipe), seed)
    trained = fit(
        model, recipe, data, seed=seed, out=out, resume=True, progress=progress, engine=Engine(device=settings.device)
    )
    return measure(trained.model, data, "test", device=torch.device(settings.device)).acc1


def run(settings: Settings, runs: Path, console: Console) -> Result:
    """Train and measure everything, showing progress on `console`; what a killed call finished is not done again."""
    if not settings.seeds or not settings.models or settings.threads < 1:
        raise InputError("needs at least one model, one seed and one thread")
    recipe = settings.trained_recipe
    networks = [find_network(name) for name in settings.models]

    @functools.lru_cache(maxsize=1)
    def load(side: int) -> Data:
        return load_data(settings.data, resolution=side, limit=settings.limit)

    values: dict[str, Any] = {"networks": {}}
    with cpu_threads(settings.threads), training_bar(console, "reading images") as bar:
        for network in networks:
            data, accuracies = load(network.resolution), {}
            for seed in settings.seeds:
                name, folder = f"{network.name}, seed {seed}", runs / network.name.replace(":", "_") / f"seed{seed}"
                accuracies[str(seed)] = train(network, settings, data, seed, folder, bar.training(name))
                console.print(f"{name}: {accuracies[str(seed)]:.2f}% on test")
            flops, params = count_flops(network, len(data.classes))
            values["networks"][network.name] = {
                "resolution": network.resolution,
                "flops": flops,
                "params": params,
                **spread(accuracies, alone=0.0),
            }
        bar.other("timing steps of the networks of Figure 7")
        values["full_run"] = full_run(settings)
    values["data"] = {split: data.count(split) for split in ("train", "val", "test")} | {"jpeg": is_jpeg(settings.data)}
    values["training"] = {"recipe": settings.recipe, "epochs": recipe.epochs, "threads": settings.threads}
    return Result.now(
        command=settings.command,
        method=method(values),
        versions=versions(["torch", "torchvision", "timm", "fvcore", "pillow", "numpy"]) | host(),
        values=values,
    )


def full_run(settings: Settings) -> dict[str, Any]:
    """Hours that one seed of every network of `FIGURE` would take with these threads: an estimate from a few steps."""
    recipe, rows = load_recipe(FULL_RECIPE), {}
    for name in FIGURE:
        network = find_network(name)
        speed = images_per_second(network.build(10, recipe), recipe, 10, network.resolution, settings.device)
        hours = recipe.epochs * FULL_IMAGES / speed / 3600
        rows[network.name] = {
            "resolution": network.resolution,
            "flops": count_flops(network, 10)[0],
            "images_per_s": round(speed, 1),
            "hours": round(hours, 1),
        }
    total = round(sum(row["hours"] for row in rows.values()), 1)
    return {"epochs": recipe.epochs, "images": FULL_IMAGES, "hours": total, "networks": rows}


def is_jpeg(spec: str) -> bool:
    """Whether a folder of pictures holds JPEG files; sets of torchvision are the original ones."""
    folder = Path(spec.removeprefix("memory:")).expanduser()
    return any(path.suffix.lower() in (".jpg", ".jpeg") for path in folder.glob("train/*/*"))


def method(values: Mapping[str, Any]) -> str:
    """`METHOD`, and what a reader of this run's numbers must know."""
    data, epochs = values["data"], values["training"]["epochs"]
    full = data["train"] >= FULL_IMAGES and epochs >= values["full_run"]["epochs"]
    text = METHOD if full else METHOD + SUBSET.format(train=data["train"], test=data["test"], epochs=epochs)
    return text + JPEG if data["jpeg"] else text


def print_tables(console: Console, values: Mapping[str, Any]) -> None:
    """The networks that were trained, then what a full run takes."""
    table = Table("network", "pixels", "M multiply-adds", "M params", "test top-1 (%)", "deviation", "n")
    for name, row in values["networks"].items():
        table.add_row(
            name,
            str(row["resolution"]),
            f"{row['flops'] / 1e6:.1f}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['mean']:.2f}",
            f"{row['deviation']:.2f}",
            str(row["n"]),
        )
    console.print(table)
    full = values["full_run"]
    table = Table("a full run", "pixels", "images/s", "hours a seed (estimate)")
    for name, row in full["networks"].items():
        table.add_row(name, str(row["resolution"]), f"{row['images_per_s']:.0f}", f"{row['hours']:.0f}")
    table.add_row("all", "", "", f"{full['hours']:.0f}")
    console.print(table)


def plot(result: Result) -> bytes:
    """Accuracy against FLOPs as a PNG: a line a family, the bars one standard deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.8, 3.6), dpi=160, layout="constrained")
    axes = figure.add_subplot(
        xlabel="multiply-adds of convolutions and linear layers (M)", ylabel="CIFAR-10 test accuracy (%)"
    )
    families: dict[str, list[dict[str, Any]]] = {}
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
    axes.margins(x=0.15, y=0.1)  # room for names
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # equal results have equal files
    return buffer.getvalue()


def family(name: str) -> str:
    """What a network is a size of: FBNetV3, EfficientNet, ResNet; others stand for themselves."""
    known = {"fbnetv3": "FBNetV3", "efficientnet": "EfficientNet", "resnet": "ResNet"}
    return next((label for key, label in known.items() if key in name), name)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Run, write and print; or draw."""
    parser = argparse.ArgumentParser(
        prog=command_of(NAME),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Settings("")
    parser.add_argument("--data", help="as fbnetv3 train takes it; leave out to show what is in --out")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME, help="folder of the trainings")
    parser.add_argument("--models", nargs="+", default=default.models, help="fbnetv3_a, timm:NAME, torchvision:NAME")
    parser.add_argument("--recipe", default=default.recipe)
    parser.add_argument("--seeds", type=int, nargs="+", default=default.seeds)
    parser.add_argument("--limit", type=int, help="images of every class in every split")
    parser.add_argument("--epochs", type=int, help="of the whole schedule; unless given, the recipe's")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--device", default=default.device)
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    options = vars(parser.parse_args(arguments))
    out, runs, picture = options.pop("out"), options.pop("runs"), options.pop("plot")
    try:
        if options["data"] is None:
            result = load_result(out.stem, out.parent)
        else:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            settings = Settings(**given)
            result = run(settings, runs, Console(stderr=True))
            write_result(out.stem, result, out.parent)
        print_tables(Console(), result.values)
        if picture is not None:
            write_atomically(picture, plot(result))
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    return result


if __name__ == "__main__":
    main()
