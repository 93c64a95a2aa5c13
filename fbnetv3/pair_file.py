"""The pair file: a searched architecture with its recipe, and how they were found (YAML, schema 1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError, check_keys
from fbnetv3.files import write_atomically
from fbnetv3.schema import dump_yaml, load_yaml
from fbnetv3.training.data.load import image_side, load_data
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.recipe import Recipe

SCHEMA = 1


@dataclass(frozen=True)
class Pair:
    """An architecture-recipe pair.

    Attributes:
        space: name of the search space.
        seed: seed of the search.
        constraint: the resource limit of the search: metric, convention, max.
        predicted: mean and std of the predicted accuracy in percent, after the epochs of the search. It is empty for a
            scaled network.
        measured: split, epochs and acc1 of a training. It is empty for a pair that was not trained.
        provenance: what is needed to train the pair again: data set, versions, run, channels and classes.
    """

    arch: Arch
    recipe: Recipe
    space: str
    seed: int
    constraint: dict[str, Any]
    predicted: dict[str, float]
    measured: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA


# The entries that each mapping must have, with their types. More entries are allowed.
_MAPPINGS: dict[str, dict[str, type]] = {
    "constraint": {"metric": str, "convention": str, "max": float},
    "predicted": {"mean": float, "std": float},
    "measured": {"split": str, "epochs": int, "acc1": float},
    "provenance": {"data": str},
}


def save_pair(pair: Pair, path: str | Path) -> None:
    """Write a pair file, atomically."""
    data = {
        "schema": pair.schema,
        "arch": pair.arch.to_dict(),
        "recipe": pair.recipe.to_dict(),
        "space": pair.space,
        "seed": pair.seed,
        "constraint": pair.constraint,
        "predicted": pair.predicted,
        "measured": pair.measured,
        "provenance": pair.provenance,
    }
    write_atomically(path, dump_yaml(data))


def load_pair(path: str | Path) -> Pair:
    """Read a pair file.

    Raises:
        InputError: a missing or damaged file, an unknown or missing key, or a value out of range.
    """
    where = str(path)
    # Every message starts with the path: a search leaves many pair files.
    fields = check_keys(load_yaml(Path(path), "pair file"), Pair, where)
    if fields.get("schema") != SCHEMA:
        raise InputError(f"{where}: schema is {fields.get('schema')!r}; this version reads {SCHEMA}")
    for key, entries in _MAPPINGS.items():
        mapping = fields[key]
        # A scaled network has no prediction, and not every pair was trained.
        if key in ("measured", "predicted") and mapping == {}:
            continue
        # One that was searched with a custom evaluator has no images.
        if key == "provenance" and isinstance(mapping, dict) and "evaluator" in mapping and mapping.get("data") is None:
            continue
        for entry, kind in entries.items():
            value = mapping.get(entry) if isinstance(mapping, dict) else None
            # A whole number is a good float, but True, which Python counts as a number, is not.
            if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
                raise InputError(f"{where}: {key}: {entry} is {value!r}; give a {kind.__name__}")
    if type(fields["seed"]) is not int or not isinstance(fields["space"], str):
        raise InputError(
            f"{where}: seed is {fields['seed']!r}, space is {fields['space']!r}; give a whole number and a name"
        )
    fields["arch"] = Arch.from_dict(fields["arch"], f"{where}: arch")
    fields["recipe"] = Recipe.from_dict(fields["recipe"], f"{where}: recipe")
    return Pair(**fields)


def named_data(pair: Pair) -> str:
    """Return the name of the images that a pair was searched for.

    Raises:
        InputError: it was searched with a custom evaluator, which has data of its own.
    """
    spec: str | None = pair.provenance.get("data")
    if spec is None:
        evaluator = pair.provenance.get("evaluator")
        raise InputError(f"the pair was searched with the evaluator {evaluator} and names no data: give data")
    return spec


def pair_data(pair: Pair) -> Data:
    """Return the images that a pair was searched for. Images from files get the resolution of the pair's network.

    Raises:
        InputError: the images are not there, or the pair names none.
    """
    spec = named_data(pair)
    # Images from files must have the size that the architecture was searched for.
    return load_data(spec, resolution=image_side(spec, pair.arch.resolution))


def pair_shape(pair: Pair) -> tuple[int, int]:
    """Return the numbers of classes and channels for counting a pair's costs: those of its space, or else of its data."""
    if "num_classes" in pair.provenance:  # the search space fixed them
        return pair.provenance["num_classes"], pair.provenance["in_chans"]
    data = pair_data(pair)
    return len(data.classes), data.transforms.in_chans
