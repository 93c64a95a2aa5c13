"""What an experiment of the paper trains and compares: networks, recipes and seeds, read from `experiments/*.yaml`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from fbnetv3.errors import InputError, available
from fbnetv3.model import build_model
from fbnetv3.networks.named import count_cost, find_network
from fbnetv3.pair_file import Pair, load_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.schema import STRICT, load_yaml, read
from fbnetv3.training.network.factory import build
from fbnetv3.training.recipe import Recipe

SCHEMA = 1
FOLDER = Path(__file__).parent
SCALES = ("cpu", "full")
PAIR = "pair:"  # before the path of a pair file, relative to FOLDER
Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0)]
_ID = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, config=STRICT)
class Network:
    """A network of an experiment.

    Attributes:
        model: a name that `fbnetv3.training.network.factory.build` knows, or `pair:FILE` for the architecture of a pair file.
        resolution: side of the square input in pixels; None for the side of the data.
        arguments: more arguments of the model's constructor.
    """

    model: Text
    resolution: Annotated[int, Field(ge=1)] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, classes: int, in_chans: int, recipe: Recipe) -> nn.Module:
        """Return a new network with the recipe's dropout and stochastic depth."""
        if (pair := _pair(self.model)) is not None:
            return build_model(pair.arch, classes, in_chans, recipe.dropout, recipe.stochastic_depth)
        return build(self.model, recipe, classes, in_chans, **self.arguments).model

    def cost(self, classes: int, in_chans: int, side: int) -> dict[str, int]:
        """Return the multiply-adds of convolutions and linear layers on one image of `side` pixels, and all parameters."""
        if (pair := _pair(self.model)) is not None:
            return count_cost(lambda: build_model(pair.arch, classes, in_chans), in_chans, side)
        return find_network(self.model, self.arguments).cost(classes, in_chans, side)


@dataclass(frozen=True, config=STRICT)
class Cell:
    """A network trained with a recipe.

    Attributes:
        network: name of a network of the scale.
        recipe: name of a recipe of the package, or `pair:FILE` for the recipe of a pair file.
        changes: fields of the recipe that have other values here.
        teacher: the cell that the network is distilled from, or None.
        tune: fields of the recipe and the values to try. All combinations are trained once before the seeds, with a seed of
            their own, and the cell has the one with the highest accuracy on the validation images.
    """

    network: Text
    recipe: Text
    changes: dict[str, Any] = field(default_factory=dict)
    teacher: Text | None = None
    tune: dict[str, Annotated[list[Any], Field(min_length=1)]] = field(default_factory=dict)

    def settings(self) -> list[dict[str, Any]]:
        """Return the combinations of values that are tried, none if nothing is tuned."""
        return [
            dict(zip(self.tune, values, strict=True)) for values in itertools.product(*self.tune.values()) if values
        ]


@dataclass(frozen=True, config=STRICT)
class Difference:
    """The sum of the accuracies of some cells minus that of equally many others, seed by seed.

    Attributes:
        about: what the difference shows, in words.
        plus: the cells that are added.
        minus: the cells that are subtracted.
        paper: the sign of the difference by the paper's numbers.
    """

    about: Text
    plus: list[Text]
    minus: list[Text]
    paper: Literal["positive", "negative"]


@dataclass(frozen=True, config=STRICT)
class Scale:
    """All trainings of an experiment at one size. Every cell is trained with every seed.

    Attributes:
        about: what replaces the paper's networks, recipes and images, and what of it was chosen here.
        split: the split whose accuracy after the last epoch is reported.
        seeds: seeds of the trainings.
        networks: the networks by name.
        cells: the cells by name.
        differences: the differences by name.
        data: the images, as `load_data` takes them; None if the user has to give them.
        stretch: factor on the epochs of every recipe, whose decay becomes as much slower.
    """

    about: Text
    split: Literal["val", "test"]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    networks: dict[Text, Network]
    cells: dict[Text, Cell]
    differences: dict[Text, Difference]
    data: Text | None = None
    stretch: Annotated[int, Field(ge=1)] = 1

    def recipe(self, cell: Cell) -> Recipe:
        """Return the recipe that the cell is trained with."""
        pair = _pair(cell.recipe)
        found = load_recipe(cell.recipe) if pair is None else pair.recipe
        # The changes come last: `epochs` among them means the epochs that are trained, whatever `stretch` says.
        return found.stretched(self.stretch).replace(**cell.changes)


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """A table of the paper at two scales: `cpu`, which runs on one core, and `full`, the paper's question on ImageNet."""

    schema: int
    name: Text
    title: Text
    cpu: Scale
    full: Scale


def list_experiments() -> list[str]:
    """Return the names of the package's experiments."""
    return sorted(path.stem for path in FOLDER.glob("table*.yaml"))


def load_experiment(name: str) -> Experiment:
    """Return an experiment of the package by name, or a custom one by the path of its YAML file.

    Raises:
        InputError: there is no such experiment, a key is unknown or missing, a value has another type, or a network, a cell or
            a recipe does not exist. The message names place, key and value.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and path.stem not in list_experiments():
        choices = available(name, list_experiments(), ", or the path of a .yaml file")
        raise InputError(f"unknown experiment {name!r}; {choices}")
    where, data = path.name, load_yaml(path, "experiment")
    for key in SCALES:
        if key in data:
            data[key] = _scale(data[key], f"{where}: {key}")
    experiment = read(Experiment, data, where)
    if experiment.schema != SCHEMA:
        raise InputError(f"{where}: schema is {experiment.schema}; this version reads {SCHEMA}: update fbnetv3")
    return experiment


def _scale(data: Any, where: str) -> Scale:
    """Return a scale made of a mapping, after a check that all names in it exist."""
    if isinstance(data, Mapping):
        data = dict(data)
        for key, cls in (("networks", Network), ("cells", Cell), ("differences", Difference)):
            if key in data:
                data[key] = _entries(cls, data[key], f"{where}: {key}")
    scale = read(Scale, data, where)
    for name, cell in scale.cells.items():
        _check_cell(scale, cell, f"{where}: cells: {name}")
    for name, difference in scale.differences.items():
        here = f"{where}: differences: {name}"
        for cell_name in (*difference.plus, *difference.minus):
            _check_name(cell_name, scale.cells, f"{here}: cell")
        # A sum of unequally many accuracies would be no difference, but about the size of an accuracy.
        if len(difference.plus) != len(difference.minus) or not difference.plus:
            counts = f"{len(difference.plus)} and {len(difference.minus)}"
            raise InputError(
                f"{here}: plus and minus have {counts} cells; allowed: equally many, and at least one each"
            )
    return scale


def _entries(cls: type, data: Any, where: str) -> dict[str, Any]:
    """Return a mapping of names to dataclasses. Each entry is read alone, so that an error can name it."""
    if not isinstance(data, Mapping) or not data:
        raise InputError(f"{where} is {data!r}; allowed: a mapping of names to entries")
    for name in data:
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise InputError(f"{where}: name {name!r}; allowed: a-z, 0-9 and _")
    return {name: read(cls, entry, f"{where}: {name}") for name, entry in data.items()}


def _check_cell(scale: Scale, cell: Cell, where: str) -> None:
    """Check that network, recipe and teacher of a cell exist and fit together."""
    _check_name(cell.network, scale.networks, f"{where}: network")
    try:
        recipe = scale.recipe(cell)  # reads the recipe and applies the changes: both may be wrong
        for settings in cell.settings():
            recipe.replace(**settings)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if cell.tune and scale.split == "val":
        raise InputError(
            f"{where}: tune chooses by the split val, which is the reported one; give split: test, or no tune"
        )
    if bool(recipe.distillation) != (cell.teacher is not None):
        raise InputError(
            f"{where}: distillation is {recipe.distillation} and teacher is {cell.teacher!r}; give both or neither"
        )
    if cell.teacher is not None:
        _check_name(cell.teacher, scale.cells, f"{where}: teacher")
        # A chain of teachers could be a circle, and the paper has none.
        if scale.cells[cell.teacher].teacher is not None:
            raise InputError(f"{where}: teacher {cell.teacher!r} has a teacher itself; allowed: cells without one")


def _check_name(name: str, known: Mapping[str, Any], where: str) -> None:
    """Check that a name is one of the known ones."""
    if name not in known:
        raise InputError(f"{where} is {name!r}; {available(name, known)}")


def _pair(text: str) -> Pair | None:
    """Return the pair that a network or recipe names with `pair:`, or None."""
    return load_pair(FOLDER / text.removeprefix(PAIR)) if text.startswith(PAIR) else None
