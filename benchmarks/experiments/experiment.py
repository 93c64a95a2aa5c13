"""An experiment of the paper (Table 1, 3, 6 or 8): cells of networks and recipes, trained and compared with the same seeds.

The package has four experiments, each at two scales: `cpu` runs on one core and without a download, `full` is the paper's
question on ImageNet. docs/experiments.md says what they compare and what they showed. There is no target: the paper's signs are
reported beside the measured differences.

Every training has a folder below --runs. Stop the command at any moment: the same command continues. Under torchrun, several
processes train together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from fbnetv3.benchmarks.command import Device, Runs, Threads, one_of
from fbnetv3.benchmarks.experiments.config import SCALES, Difference, Experiment, Scale, load_experiment
from fbnetv3.benchmarks.experiments.experiment_tables import tables
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values, is_first_process
from fbnetv3.benchmarks.result import RESULTS, device_facts
from fbnetv3.benchmarks.statistics import over_seeds, paired_difference
from fbnetv3.device import find_device
from fbnetv3.errors import InputError
from fbnetv3.progress import Report, labelled, show_progress
from fbnetv3.training.accuracy import measure as evaluate
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.distributed import process_group
from fbnetv3.training.engine import Engine, cpu_threads, seeded
from fbnetv3.training.loop import Trained, fit
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.trainer import DivergedError

FAILURES = (DivergedError, torch.cuda.OutOfMemoryError)  # they end one training; the other trainings still run
TUNING_SEED = 1000  # of the trainings that a cell is tuned by
IMAGENET = {"classes": 1000, "in_chans": 3}  # the data of the full scale
METHOD = (
    "Every cell is trained with every seed, which fixes initial weights, order and augmentation. `seeds`: top-1 in percent on "
    "the {split} split, of the weights that the recipe reports (raw, or the moving average with EMA), after the last epoch; "
    "nothing was chosen by it.{tuned} `deviation`: sample standard deviation over seeds. `differences`: the cells of `plus` "
    "less those of `minus`, paired by seed, with the 95% interval of Student's t over seeds, each by itself: with several "
    "differences one in twenty excludes zero by chance. The interval covers seeds, not other images, epochs or networks. "
    "`flops`: multiply-adds of convolutions and linear layers on one image, without pooling and norms; `params`: all "
    "parameters; `full` has those of the full-scale networks, which were built and not trained. {about}"
)
TUNED = (
    " `tuned`: a tuned cell has those of the tried values with the highest top-1 on the validation images, `val_acc1`, after "
    f"one training each with seed {TUNING_SEED}."
)
Accuracies = Mapping[str, Mapping[int, float]]
"""Accuracy in percent by cell and seed, of the trainings that ended well."""


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains the cells of a scale, each cell and seed in a folder of its own. A finished training is only loaded.

    Attributes:
        scale: what is trained.
        load: returns the images of a side in pixels; None for the data's own side.
        runs: folder of the trainings.
        engine: device, precision and accumulation.
        process: this process, of the processes that train together.
        tuning: by cell, the values that were tried and their accuracy `val_acc1`, None where the training diverged.
    """

    scale: Scale
    load: Callable[[int | None], Data]
    runs: Path
    engine: Engine
    process: ProcessRank
    tuning: dict[str, list[Values]] = field(default_factory=dict)

    def images(self, cell: str) -> Data:
        """Return the images that the cell is trained on."""
        return self.load(self.scale.networks[self.scale.cells[cell].network].resolution)

    def train(self, cell: str, seed: int, report: Report | None = None) -> Trained:
        """Train the cell after its teacher. Both continue from where their folders stand.

        Raises:
            DivergedError: the loss of the cell or of its teacher became infinite or NaN.
            InputError: the folder holds another training.
        """
        settings = self.tune(cell, report)
        return self._fit(cell, settings, seed, self.runs / cell / f"seed{seed}", report)

    def tune(self, cell: str, report: Report | None = None) -> Values:
        """Train the settings of a tuned cell, and return the best one by the validation images, the first of equal ones.

        Raises:
            DivergedError: every setting diverged.
        """
        settings = self.scale.cells[cell].settings()
        if not settings:
            return {}
        if cell not in self.tuning:
            self.tuning[cell] = [one | {"val_acc1": self._validated(cell, one, report)} for one in settings]
        tried = [row["val_acc1"] for row in self.tuning[cell]]
        if not any(value is not None for value in tried):
            raise DivergedError(f"all {len(tried)} settings of the tuned cell {cell} diverged")
        return settings[max(range(len(tried)), key=lambda i: -1.0 if tried[i] is None else tried[i])]

    def _validated(self, cell: str, settings: Values, report: Report | None) -> float | None:
        """Train a cell with a setting, and return the top-1 on the validation images in percent, None if it diverged."""
        name = "_".join(f"{key}_{value}" for key, value in settings.items())
        try:
            trained = self._fit(cell, settings, TUNING_SEED, self.runs / cell / f"tune_{name}", report)
        except DivergedError:
            return None
        return self._accuracy(trained, cell, "val")

    def _accuracy(self, trained: Trained, cell: str, split: str) -> float:
        return evaluate(trained.model, self.images(cell), split, self.process, torch.device(self.engine.device)).acc1

    def _fit(self, cell: str, settings: Values, seed: int, out: Path, report: Report | None) -> Trained:
        entry, data = self.scale.cells[cell], self.images(cell)
        network, recipe = self.scale.networks[entry.network], self.scale.recipe(entry).replace(**settings)
        # A teacher that is a cell itself is trained only once: its folder is the one of the cell.
        teacher = None if entry.teacher is None else self.train(entry.teacher, seed, report).model
        model = seeded(lambda: network.build(len(data.classes), data.transforms.in_chans, recipe), seed)
        return fit(
            model,
            recipe,
            data,
            seed=seed,
            out=out,
            resume=True,
            progress=report,
            engine=self.engine,
            teacher=teacher,
        )

    def accuracy(self, cell: str, seed: int, report: Report | None = None) -> float:
        """Train the cell and return the top-1 of its last weights in percent, on the split that the scale reports."""
        return self._accuracy(self.train(cell, seed, report), cell, self.scale.split)


def measure(
    name: Annotated[str, typer.Argument(help="table1, table3, table6 or table8, or the path of a custom YAML file.")],
    scale: Annotated[
        str, typer.Option(parser=one_of(*SCALES), metavar="[cpu|full]", help="Size of the experiment.")
    ] = "cpu",
    data: Annotated[
        str | None,
        typer.Option(help="Images to train on, as `fbnetv3 train` takes them. The full scale has none of its own."),
    ] = None,
    seeds: Annotated[
        tuple[int, ...], typer.Option(metavar="N ...", min=0, help="Seeds to run; by default the experiment's.")
    ] = (),
    runs: Runs = Path("runs") / "experiments",
    threads: Threads = 1,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that read images.")] = 0,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(parser=one_of("fp32", "bf16"), metavar="[fp32|bf16]", help="Precision of the computation.")
    ] = "fp32",
    accumulate: Annotated[int, typer.Option(help="Number of parts into which a batch is divided, to save memory.")] = 1,
) -> Measured:
    """Train every cell with every seed, and compare the cells. What a stopped run has finished is not trained again."""
    # A seed that is given twice would count twice in the mean, and make its interval too narrow.
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {', '.join(map(str, seeds))}; give every seed once")
    experiment = load_experiment(name)
    chosen: Scale = getattr(experiment, scale)
    spec = data or chosen.data
    if spec is None:
        raise InputError(f"{experiment.name} at scale {scale} has no images of its own; give --data")
    engine = Engine(find_device(device), "bf16" if precision == "bf16" else "fp32", accumulate)
    # Two sizes of images at most are used in turns: of a cell, and of its teacher.
    load = functools.lru_cache(maxsize=2)(lambda side: load_data(spec, resolution=side, workers=workers))
    # Under torchrun all processes train, and every one of them comes to the same result. The first one writes it.
    with process_group(torch.device(engine.device)) as process:
        trainer = Trainer(chosen, load, runs / experiment.name / scale, engine, process)
        # Images without this split fail here, and not after the first training.
        trainer.images(next(iter(chosen.cells))).count(chosen.split)
        # The number of threads changes the last digits of a training, so it is part of the result.
        with cpu_threads(threads):
            accuracies, failures = train_all(trainer, seeds or tuple(chosen.seeds))
        values = collect(experiment, scale, threads, trainer, accuracies, failures)
    tuned = any(cell.tune for cell in chosen.cells.values())
    words = {"split": chosen.split, "about": chosen.about, "tuned": TUNED if tuned else ""}
    return Measured(values, words, device_facts(engine.device))


def train_all(trainer: Trainer, seeds: tuple[int, ...]) -> tuple[Accuracies, Mapping[str, Mapping[int, str]]]:
    """Train every cell with every seed, and return the accuracies and the errors of trainings that failed."""
    cells, split = trainer.scale.cells, trainer.scale.split
    accuracies: dict[str, dict[int, float]] = {cell: {} for cell in cells}
    failures: dict[str, dict[int, str]] = {cell: {} for cell in cells}
    # Seeds are in the outer loop: a run that is stopped early can already compare all cells, for fewer seeds.
    jobs = [(seed, cell) for seed in seeds for cell in cells]
    console = Console(stderr=True, quiet=not is_first_process())
    with show_progress(console) as report:
        for i, (seed, cell) in enumerate(jobs, 1):
            label = f"[{i}/{len(jobs)}] {cell}, seed {seed}"
            try:
                accuracies[cell][seed] = trainer.accuracy(cell, seed, labelled(report, label))
                console.print(f"{label}: {accuracies[cell][seed]:.2f}% on {split}", markup=False)
            # That a network cannot be trained with a recipe is a result too.
            except FAILURES as error:
                # The words after the semicolon are long: they repeat the recipe, which the result file has anyway.
                failures[cell][seed] = f"{type(error).__name__}: {str(error).partition(';')[0]}"
                console.print(f"{label}: {failures[cell][seed]}", markup=False)
    return accuracies, failures


def collect(
    experiment: Experiment,
    scale: str,
    threads: int,
    trainer: Trainer,
    accuracies: Accuracies,
    failures: Mapping[str, Mapping[int, str]],
) -> Values:
    """Return the values of the result file."""
    chosen = trainer.scale
    # Images of another size are the same images, so the first cell speaks for all.
    data = trainer.images(next(iter(chosen.cells)))
    cells = {
        name: {
            "network": cell.network,
            "recipe": cell.recipe,
            "changes": cell.changes,
            "teacher": cell.teacher,
            **({"tuned": trainer.tuning.get(name, [])} if cell.tune else {}),
            "epochs": chosen.recipe(cell).epochs,
            **over_seeds(accuracies[name]),
            "failed": {str(seed): words for seed, words in failures[name].items()},
        }
        for name, cell in chosen.cells.items()
    }
    return {
        "experiment": experiment.name,
        "scale": scale,
        "title": experiment.title,
        "data": {"name": data.name, "split": chosen.split, **{s: data.count(s) for s in ("train", chosen.split)}},
        "threads": threads,
        "networks": costs(chosen, len(data.classes), data.transforms.in_chans, data.transforms.crop),
        "cells": cells,
        "differences": {name: compare(entry, accuracies) for name, entry in chosen.differences.items()},
        # The networks that the small ones stand for, so that a reader can compare their sizes.
        "full": costs(experiment.full, **IMAGENET),
    }


def costs(scale: Scale, classes: int, in_chans: int, side: int = 224) -> dict[str, Any]:
    """Return multiply-adds and parameters of the networks of a scale, by name.

    Args:
        scale: the networks.
        classes: number of classes of the data.
        in_chans: channels of the images.
        side: side of the images in pixels, for networks that do not give one.
    """
    return {
        name: {"model": network.model, "resolution": network.resolution or side, "arguments": network.arguments}
        | network.cost(classes, in_chans, network.resolution or side)
        for name, network in scale.networks.items()
    }


def compare(difference: Difference, accuracies: Accuracies) -> Values:
    """Return the difference over the seeds that all of its cells finished. One seed alone gives no interval."""
    # A training that failed has no accuracy. Its seed is left out of all sums, so that these stay paired.
    involved = [accuracies[cell] for cell in (*difference.plus, *difference.minus)]
    seeds = [seed for seed in involved[0] if all(seed in cell for cell in involved)]
    plus, minus = (
        [sum(accuracies[cell][seed] for cell in cells) for seed in seeds]
        for cells in (difference.plus, difference.minus)
    )
    by_seed = {str(seed): round(a - b, 3) for seed, a, b in zip(seeds, plus, minus, strict=True)}
    row: Values = {"about": difference.about, "paper": difference.paper, "seeds": by_seed, "n": len(seeds)}
    if len(seeds) < 2:
        return row | {"mean": next(iter(by_seed.values()), None), "low": None, "high": None, "excludes_zero": None}
    found = paired_difference(plus, minus).rounded(3)
    return row | found | {"excludes_zero": found["low"] > 0 or found["high"] < 0}


def result_file(settings: Mapping[str, Any]) -> Path:
    """Return the result file of an experiment. The one of the scale `cpu` has no scale in its name."""
    name, scale = load_experiment(settings["name"]).name, settings["scale"]
    return RESULTS / f"experiment_{name}{'' if scale == 'cpu' else f'_{scale}'}.json"


BENCHMARK = Benchmark(
    "experiment",
    METHOD,
    ("torch", "torchvision", "timm", "numpy", "scipy"),
    measure,
    tables=tables,
    file=result_file,
)
