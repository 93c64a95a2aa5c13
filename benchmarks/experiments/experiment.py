"""Experiments of the paper (Tables 1, 3, 6 and 8) at two scales: every cell trained with every seed, compared seed by seed.

    fbnetv3 benchmark experiment table1                                        # on one core, no download
    fbnetv3 benchmark experiment table1 --show                                 # the committed result
    fbnetv3 benchmark experiment table1 --scale full --data IMAGENET --device cuda --precision bf16

What is trained is data, `experiments/NAME.yaml` or a file of your own. Every training has a folder below `--runs`; stop the
command at any moment, and the same command goes on. docs/experiments.md says what each experiment is and what it showed.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fbnetv3.benchmarks.experiments.config import SCALES, Difference, Experiment, Scale, load_experiment
from fbnetv3.benchmarks.experiments.report import print_tables
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, load_result, versions, write_result
from fbnetv3.benchmarks.seeds import paired_difference, spread
from fbnetv3.benchmarks.training_bar import training_bar
from fbnetv3.errors import InputError
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import Data
from fbnetv3.training.distributed import find_device, processes
from fbnetv3.training.loop import DivergedError, Engine, Progress, Trained, cpu_threads, fit, seeded
from fbnetv3.training.process_rank import Share

NAME = "experiment"
FAILURES = (DivergedError, torch.cuda.OutOfMemoryError)  # of one training: the others go on
IMAGENET = {"classes": 1000, "in_chans": 3}  # of the full scale
METHOD = (
    "Every cell is trained with every seed, which fixes initial weights, order and augmentation. `seeds`: top-1 in percent on "
    "the {split} split, of the weights that the recipe reports (raw, or the moving average with EMA), after the last epoch; "
    "nothing was chosen by it. `deviation`: sample standard deviation over seeds. `differences`: the cells of `plus` less "
    "those of `minus`, paired by seed, with the 95% interval of Student's t over seeds, each by itself: with several "
    "differences one in twenty excludes zero by chance. The interval covers seeds, not other images, epochs or networks. "
    "`flops`: multiply-adds of convolutions and linear layers on one image, without pooling and norms; `params`: all "
    "parameters; `full` has those of the full-scale networks, which were built and not trained. {about}"
)


@dataclass(frozen=True)
class Options:
    """How the experiment called `name`, or the file of that path, is run; `data` and `seeds` None for its own."""

    name: str
    scale: str = "cpu"
    data: str | None = None
    seeds: tuple[int, ...] | None = None
    workers: int = 0
    threads: int = 1
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if self.seeds is not None and (min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds)):
            raise InputError(f"seeds are {', '.join(map(str, self.seeds))}; allowed: different whole numbers from 0")

    @property
    def command(self) -> str:
        """What repeats the run; places of files and folders are left out."""
        words = [f"{command_of(NAME)} {Path(self.name).name} --scale {self.scale}"]
        if self.data is not None:
            kind, colon, place = self.data.rpartition(":")
            words.append(f"--data {kind}{colon}{'FOLDER' if Path(place).expanduser().is_dir() else place}")
        if self.seeds is not None:
            words.append(f"--seeds {' '.join(map(str, self.seeds))}")
        given = {"threads": self.threads, **{k: getattr(self.engine, k) for k in ("device", "precision", "accumulate")}}
        usual = {"threads": 1, "device": "cpu", "precision": "fp32", "accumulate": 1}
        return " ".join([*words, *(f"--{key} {value}" for key, value in given.items() if value != usual[key])])


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains cells, each in a folder of its own; a finished training is loaded, not repeated."""

    scale: Scale
    load: Callable[[int | None], Data]  # images by resolution
    runs: Path
    engine: Engine
    share: Share

    def images(self, cell: str) -> Data:
        """What the cell is trained on."""
        return self.load(self.scale.networks[self.scale.cells[cell].network].resolution)

    def train(self, cell: str, seed: int, progress: Progress | None = None) -> Trained:
        """Train the cell, after its teacher; both go on from where their folders stand.

        Raises:
            DivergedError: its loss, or its teacher's, became infinite or NaN.
            InputError: the folder holds another training.
        """
        entry, data = self.scale.cells[cell], self.images(cell)
        network, recipe = self.scale.networks[entry.network], self.scale.recipe(entry)
        teacher = None if entry.teacher is None else self.train(entry.teacher, seed, progress).model
        model = seeded(lambda: network.build(len(data.classes), data.transforms.in_chans, recipe), seed)
        return fit(
            model,
            recipe,
            data,
            seed=seed,
            out=self.runs / cell / f"seed{seed}",
            resume=True,
            progress=progress,
            engine=self.engine,
            teacher=teacher,
        )

    def accuracy(self, cell: str, seed: int, progress: Progress | None = None) -> float:
        """Top-1 in percent on the split that the scale reports, of the training's last weights."""
        trained, device = self.train(cell, seed, progress), torch.device(self.engine.device)
        return measure(trained.model, self.images(cell), self.scale.split, self.share, device).acc1


def run(experiment: Experiment, options: Options, runs: Path, console: Console, share: Share) -> Result:
    """Train and measure every cell with every seed; what a killed call finished is not done again."""
    scale: Scale = getattr(experiment, options.scale)
    spec, seeds = options.data or scale.data, options.seeds or tuple(scale.seeds)
    if spec is None:
        raise InputError(f"{experiment.name} at scale {options.scale} has no images of its own: give --data")
    load = functools.lru_cache(maxsize=2)(lambda side: load_data(spec, resolution=side, workers=options.workers))
    trainer = Trainer(scale, load, runs / experiment.name / options.scale, options.engine, share)
    trainer.images(next(iter(scale.cells))).count(scale.split)
    accuracies: dict[str, dict[int, float]] = {cell: {} for cell in scale.cells}
    failures: dict[str, dict[int, str]] = {cell: {} for cell in scale.cells}
    jobs = [(seed, cell) for seed in seeds for cell in scale.cells]
    with cpu_threads(options.threads), training_bar(console, "") as bar:
        for i, (seed, cell) in enumerate(jobs, 1):
            label = f"[{i}/{len(jobs)}] {cell}, seed {seed}"
            try:
                accuracies[cell][seed] = trainer.accuracy(cell, seed, bar.training(label))
                console.print(f"{label}: {accuracies[cell][seed]:.2f}% on {scale.split}", markup=False)
            except FAILURES as error:
                failures[cell][seed] = f"{type(error).__name__}: {str(error).partition(';')[0]}"
                console.print(f"{label}: {failures[cell][seed]}", markup=False)
    return Result.now(
        command=options.command,
        method=METHOD.format(split=scale.split, about=scale.about),
        versions=versions(["torch", "torchvision", "timm", "numpy", "scipy"]) | host(),
        values=_values(experiment, options, trainer, accuracies, failures),
    )


def _values(
    experiment: Experiment,
    options: Options,
    trainer: Trainer,
    accuracies: Mapping[str, Mapping[int, float]],
    failures: Mapping[str, Mapping[int, str]],
) -> dict[str, Any]:
    scale = trainer.scale
    data = trainer.images(next(iter(scale.cells)))
    cells = {
        name: {
            "network": cell.network,
            "recipe": cell.recipe,
            "changes": cell.changes,
            "teacher": cell.teacher,
            "epochs": scale.recipe(cell).epochs,
            **spread(accuracies[name]),
            "failed": {str(seed): words for seed, words in failures[name].items()},
        }
        for name, cell in scale.cells.items()
    }
    return {
        "experiment": experiment.name,
        "scale": options.scale,
        "title": experiment.title,
        "data": {"name": data.name, "split": scale.split, **{s: data.count(s) for s in ("train", scale.split)}},
        "threads": options.threads,
        "networks": costs(scale, len(data.classes), data.transforms.in_chans, data.transforms.crop),
        "cells": cells,
        "differences": {name: compare(entry, accuracies) for name, entry in scale.differences.items()},
        "full": costs(experiment.full, **IMAGENET),
    }


def costs(scale: Scale, classes: int, in_chans: int, side: int = 224) -> dict[str, Any]:
    """Multiply-adds and parameters of the scale's networks, by name; `side` where one has no resolution."""
    return {
        name: {"model": network.model, "resolution": network.resolution or side, "arguments": network.arguments}
        | network.cost(classes, in_chans, network.resolution or side)
        for name, network in scale.networks.items()
    }


def compare(difference: Difference, accuracies: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """The difference over the seeds that all its cells finished; without an interval for fewer than two."""
    involved = [accuracies[cell] for cell in (*difference.plus, *difference.minus)]
    seeds = [seed for seed in involved[0] if all(seed in cell for cell in involved)]
    plus, minus = (
        [sum(accuracies[cell][seed] for cell in cells) for seed in seeds]
        for cells in (difference.plus, difference.minus)
    )
    by_seed = {str(seed): round(a - b, 3) for seed, a, b in zip(seeds, plus, minus, strict=True)}
    row: dict[str, Any] = {"about": difference.about, "paper": difference.paper, "seeds": by_seed, "n": len(seeds)}
    if len(seeds) < 2:
        return row | {"mean": next(iter(by_seed.values()), None), "low": None, "high": None, "excludes_zero": None}
    found = {key: round(value, 3) for key, value in asdict(paired_difference(plus, minus)).items()}
    return row | found | {"excludes_zero": found["low"] > 0 or found["high"] < 0}


def result_file(name: str, scale: str) -> Path:
    """Where the result of an experiment is kept: that of the CPU scale has the plain name."""
    return RESULTS / f"experiment_{name}{'' if scale == 'cpu' else f'_{scale}'}.json"


def show(path: Path) -> Result:
    """A result that was written before.

    Raises:
        InputError: there is none, or it does not read.
    """
    if not path.is_file():
        raise InputError(f"no result {path}: leave out --show to run the experiment, or give --out")
    return load_result(path.stem, path.parent)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Parse, then run and write, or read; print."""
    options = _parser().parse_args(arguments)
    try:
        experiment = load_experiment(options.name)
        out = options.out or result_file(experiment.name, options.scale)
        if options.show:
            result = show(out)
        else:
            engine = Engine(find_device(options.device), options.precision, options.accumulate)
            seeds = tuple(options.seeds) if options.seeds else None
            chosen = Options(options.name, options.scale, options.data, seeds, options.workers, options.threads, engine)
            with processes(torch.device(engine.device)) as share:
                result = run(experiment, chosen, options.runs, Console(stderr=True, quiet=share.rank > 0), share)
                if share.rank == 0:
                    write_result(out.stem, result, out.parent)
        print_tables(Console(quiet=os.environ.get("RANK", "0") != "0"), result)
    except InputError as error:
        _parser().error(str(error))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command_of(NAME),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options("")
    parser.add_argument("name", help="table1, table3, table6, table8, or the path of a .yaml file")
    parser.add_argument("--scale", choices=SCALES, default=default.scale)
    parser.add_argument("--data", help="other images, as fbnetv3 train takes them; at full scale needed")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the experiment's own")
    parser.add_argument("--out", type=Path, help="the result file")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "experiments", help="folder of the trainings")
    parser.add_argument("--show", action="store_true", help="train nothing: print the result file")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--workers", type=int, default=default.workers, help="processes that read pictures")
    parser.add_argument("--device", default=default.engine.device)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=default.engine.precision)
    parser.add_argument("--accumulate", type=int, default=1, help="parts that a batch is worked off in")
    return parser


if __name__ == "__main__":
    main()
