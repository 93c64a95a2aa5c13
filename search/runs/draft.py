"""A preset and a space for somebody's images, written with comments, whose search takes about so many minutes on this machine.

fbnetv3 search init --data FOLDER --out my.yaml
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fbnetv3.device import find_device, find_precision
from fbnetv3.files import write_atomically
from fbnetv3.model import build_model
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, load_preset
from fbnetv3.search.nars.context import LEAST_EPOCHS, Context
from fbnetv3.search.space.network_space import as_networks
from fbnetv3.search.space.reader import space_path
from fbnetv3.search.trial import Candidate
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.load import image_side, load_data
from fbnetv3.training.data.shape import DataShape, data_shape
from fbnetv3.training.data.spec import absolute_spec
from fbnetv3.training.engine import Engine, cpu_threads, seeded
from fbnetv3.training.loop import fit

PRESET, SPACE = "images", "images"
MEASURED_IMAGES = 512  # about as many are trained on to measure the speed
LEAST_ROUNDS, MOST_ROUNDS = 3, 20


@dataclass(frozen=True)
class Draft:
    """What `init` found out and chose.

    Attributes:
        epoch_seconds: measured; of a training of a candidate of median FLOPs.
        at_once: trainings that run at the same time.
    """

    config: SearchConfig
    shape: DataShape
    side: int
    epoch_seconds: float
    at_once: int

    @property
    def minutes(self) -> float:
        """How long the search will take about, without its own computations."""
        return search_seconds(self.config, self.epoch_seconds, self.at_once) / 60


def draft(data: str, minutes: float, device: str = "auto") -> Draft:
    """Look at the data, measure a training, and choose how many epochs and rounds take about so many minutes.

    Raises:
        InputError: there is no such data, or no such device.
    """
    shape, device = data_shape(data), find_device(device)
    context = Context.of(load_preset(PRESET).replace(data=absolute_spec(data), device=device))
    rows = context.constraints.sample(65, 0)
    median = rows[context.space.cost(rows).flops().argsort()[len(rows) // 2]]
    candidate = as_networks(context.space).candidate(median.tolist(), context.base, "candidate")
    seconds = measure_epoch(candidate, data, shape, device)
    at_once = ExecutorSettings().at_once(device)
    config = fitted(context.config, seconds, at_once, 60 * minutes)
    return Draft(config, shape, max(context.space.resolutions), seconds, at_once)


def measure_epoch(candidate: Candidate, data: str, shape: DataShape, device: str) -> float:
    """Return the seconds that an epoch of a training on all images takes, from one on some of them."""
    side = image_side(data, candidate.arch.resolution)
    some = load_data(data, resolution=side, limit=max(2, MEASURED_IMAGES // shape.num_classes))
    some = on_device(some, torch.device(device))
    recipe, ends = candidate.recipe.lasting(LEAST_EPOCHS), list[float]()
    engine = Engine(device, find_precision("auto", device))
    with cpu_threads(1):
        model = seeded(lambda: build_model(candidate.arch, shape.num_classes, shape.in_chans), 0)
        # The first epoch also starts things, so the second one counts.
        fit(model, recipe, some, seed=0, on_epoch=lambda *_: ends.append(time.monotonic()), engine=engine)
    return (ends[-1] - ends[-2]) * shape.images / some.count("train")


def search_seconds(config: SearchConfig, epoch_seconds: float, at_once: int) -> float:
    """Return how long the trainings of a search take."""
    epochs = config.epochs
    assert isinstance(epochs, int)  # it was taken from the data
    return epoch_seconds * epochs * (config.trainings / at_once + config.final_stretch)


def fitted(config: SearchConfig, epoch_seconds: float, at_once: int, seconds: float) -> SearchConfig:
    """Return the settings with as many rounds as fit the time; with fewer epochs where few rounds do not.

    The least of both is taken if nothing fits.
    """
    while True:
        for rounds in range(MOST_ROUNDS, LEAST_ROUNDS - 1, -1):
            found = dataclasses.replace(config, rounds=rounds)
            if search_seconds(found, epoch_seconds, at_once) <= seconds:
                return found
        assert isinstance(config.epochs, int)
        if config.epochs <= LEAST_EPOCHS:
            return found
        config = dataclasses.replace(config, epochs=max(LEAST_EPOCHS, config.epochs * 2 // 3))


def space_beside(preset: Path) -> Path:
    """Return the path of the space of a preset."""
    return preset.with_name(f"{preset.stem}_space.yaml")


def write_draft(found: Draft, path: Path) -> None:
    """Write the preset, and its space beside it."""
    write_atomically(space_beside(path), space_text(found, path.stem))
    write_atomically(path, preset_text(found, path.stem, space_beside(path).name))


def space_text(found: Draft, name: str) -> str:
    """Return the package's space for images with its comments, and the numbers of the data."""
    shape = found.shape
    numbers = {
        "name": json.dumps(name),
        "resolution": f"{found.side}  # the images' shorter sides have a median of {shape.side} pixels",
        "in_chans": str(shape.in_chans),
        "num_classes": str(shape.num_classes),
    }
    lines = [(line.partition(":")[0], line) for line in space_path(SPACE).read_text().splitlines()]
    return "".join(f"{key}: {numbers[key]}\n" if key in numbers else f"{line}\n" for key, line in lines)


def preset_text(found: Draft, name: str, space: str) -> str:
    """Return the preset with a comment on everything that one may want to change."""
    config, shape = found.config, found.shape
    stages = f"{config.batches[0]} + {config.rounds - 1} x {config.batch}"
    return f"""\
# Written by `fbnetv3 search init` for {shape.images:,} training images in {shape.num_classes} classes. Run it with
#   fbnetv3 search run --preset {name}.yaml --out DIR
# On the machine where it was written, an epoch of a median candidate took {found.epoch_seconds:.2g} s, and
# {found.at_once} trainings run at the same time. So those of the search take about {found.minutes:.0f} minutes.
schema: 1
name: {json.dumps(name)}
about: A NARS search on the images below.
space: {json.dumps(space)}  # which networks and recipes there are; beside this file
data: {json.dumps(config.data)}
recipe: {config.recipe}  # base recipe; the space replaces what it searches
epochs: {config.epochs}  # of a training
# A budget for the network, such as {{metric: flops, max: 2.0e+6}}; this one is more than any network has.
constraint: {{metric: {config.constraint.metric}, max: {config.constraint.max:.1e}}}
pool: {config.pool}  # candidates whose free statistics the predictor learns from
first: {config.first}  # random candidates that train first
batch: {config.batch}  # candidates that train between two fits of the predictor
rounds: {config.rounds}  # {stages} trainings and {config.finalists} finalists
finalists: {config.finalists}  # best candidates of the evolution, trained before one is chosen
stopping: {config.stopping}  # hopeless trainings end early, by a model of learning curves
early_stopping: {config.early_stopping}  # would count with stopping: rule
final_stretch: {config.final_stretch}  # the chosen pair trains for so many times the epochs
predictor: {{}}
evolution: {{}}
"""
