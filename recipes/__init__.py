"""Recipe files: load, save and list them; every value in a file carries its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, check_keys
from fbnetv3.files import write_atomically
from fbnetv3.schema import dump_yaml, load_yaml
from fbnetv3.training.recipe import Recipe

SCHEMA = 1
FOLDER = Path(__file__).parent
PROVENANCES = ("paper", "proxy", "search", "choice")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with its header and, per field, where the value comes from."""

    name: str
    about: str
    expected: str  # accuracy, hours and hardware with their origin, or "not published", "not measured"
    recipe: Recipe
    sources: Mapping[str, tuple[str, str]]  # field -> (provenance, source)


@dataclass(frozen=True)
class _Header:
    schema: int
    name: str
    about: str
    expected: str
    values: Any


@dataclass(frozen=True)
class _Value:
    value: Any
    provenance: str
    source: str


def list_recipes() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.yaml"))


def load_recipe(name: str | Path) -> Recipe:
    """The recipe of the package called `name`, or of the YAML file at that path.

    A user's own file may also hold the recipe's fields alone, `field: value` a line.

    Raises:
        InputError: no such recipe, or a file with an unknown key, a missing key or a value out of range.
    """
    data, path = _read(name)
    return Recipe.from_dict(data, str(path)) if "values" not in data else read_recipe_file(name).recipe


def read_recipe_file(name: str | Path) -> RecipeFile:
    """The recipe with header and provenance; errors as `load_recipe`'s."""
    data, path = _read(name)
    header = _Header(**check_keys(data, _Header, str(path)))
    if header.schema != SCHEMA:
        raise InputError(f"{path}: schema is {header.schema!r}; this version reads {SCHEMA}")
    if not isinstance(header.values, Mapping):
        raise InputError(f"{path}: values is {header.values!r}; give a mapping of recipe fields")
    values = {
        key: _Value(**check_keys(entry, _Value, f"{path}: values: {key}")) for key, entry in header.values.items()
    }
    for key, entry in values.items():
        if entry.provenance not in PROVENANCES:
            raise InputError(f"{path}: {key}: provenance is {entry.provenance!r}; allowed: {', '.join(PROVENANCES)}")
    recipe = Recipe.from_dict({key: entry.value for key, entry in values.items()}, str(path))
    sources = {key: (entry.provenance, entry.source) for key, entry in values.items()}
    return RecipeFile(header.name, header.about, header.expected, recipe, sources)


def save_recipe(recipe: Recipe, path: str | Path, *, about: str, provenance: str, source: str, expected: str) -> None:
    """Write a recipe file whose values all come from one source, such as a search run."""
    if provenance not in PROVENANCES:
        raise InputError(f"provenance is {provenance!r}; allowed: {', '.join(PROVENANCES)}")
    values = {
        key: {"value": value, "provenance": provenance, "source": source} for key, value in recipe.to_dict().items()
    }
    header = {"schema": SCHEMA, "name": Path(path).stem, "about": about, "expected": expected, "values": values}
    write_atomically(path, dump_yaml(header))


def _read(name: str | Path) -> tuple[dict[str, Any], Path]:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if str(name) not in list_recipes():
            known = ", ".join(list_recipes())
            raise InputError(f"unknown recipe {str(name)!r}; available: {known}, or the path of a .yaml file")
    return load_yaml(path, "recipe"), path
