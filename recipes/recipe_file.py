"""Recipe files: load, save and list them. In a file every value has its provenance and source.

A file of schema 2 has a header (what is trained, expected accuracy, hours, hardware, command) and `values`: a mapping from
field to `{value, provenance, source}`. It may name another recipe as `base`, whose values hold for the fields that it does not
name.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError, available
from fbnetv3.files import write_atomically
from fbnetv3.schema import STRICT, dump_yaml, load_yaml, read
from fbnetv3.training.recipe import Recipe

SCHEMA = 2
FOLDER = Path(__file__).parent
Provenance = Literal["paper", "proxy", "search", "choice", "reference"]
PROVENANCES: tuple[Provenance, ...] = get_args(Provenance)
FOR_ANY_DATA = ("finetune", "images")  # folders of recipes; the other folders have the name of a data set
SMALL_SET = 20_000  # images of train, below which a set is small for fine-tuning
NOT_STATED = "not stated"  # for the header fields that schema 1 does not have
DEFAULT = ("choice", "default of the package")  # provenance and source of a field that a file does not name
Text = Annotated[str, Field(min_length=1)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


@dataclass(frozen=True, config=STRICT)
class Expected:
    """The expected accuracy in percent and its origin. Without an accuracy, `origin` says why, as in "not published"."""

    acc1: Percent | None
    origin: Text
    acc5: Percent | None = None

    def __str__(self) -> str:
        """Return one line, such as "76.13% top-1 (torchvision's record)"."""
        known = [f"{value:g}% top-{k}" for k, value in ((1, self.acc1), (5, self.acc5)) if value is not None]
        return f"{', '.join(known)} ({self.origin})" if known else self.origin


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with the header of its file and, for every field, where the value comes from."""

    name: str
    about: str
    expected: Expected
    hours: str  # duration of one training, with its origin
    hardware: str
    command: str
    base: str | None  # the recipe whose values hold for the fields that this file does not name
    recipe: Recipe
    sources: Mapping[str, tuple[str, str]]  # field -> (provenance, source)

    def header(self) -> dict[str, Any]:
        """Return everything except the values, as plain data."""
        return {
            "name": self.name,
            "about": self.about,
            "base": self.base,
            "expected": dataclasses.asdict(self.expected),
            "hours": self.hours,
            "hardware": self.hardware,
            "command": self.command,
        }

    @property
    def network(self) -> str | None:
        """The network that the header's command trains, such as `torchvision:resnet50`; None if it names none."""
        words = shlex.split(self.command)
        return words[words.index("--model") + 1] if "--model" in words[:-1] else None

    def summary(self) -> dict[str, Any]:
        """Return a row for a table of recipes. `acc1` is the expected accuracy, and `status` says whose it is, or why none."""
        folder = self.name.rpartition("/")[0]
        return {
            "recipe": self.name,
            "data": "any" if folder in FOR_ANY_DATA else folder or None,
            "network": self.network,
            "epochs": self.recipe.epochs,
            "acc1": self.expected.acc1,
            "status": self.expected.origin.partition(";")[0],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return for every field of the recipe a row with field, value, provenance and source."""
        rows = []
        for field, value in dataclasses.asdict(self.recipe).items():
            provenance, source = self.sources.get(field, DEFAULT)
            rows.append({"field": field, "value": value, "provenance": provenance, "source": source})
        return rows


@dataclass(frozen=True, config=STRICT)
class _Header:
    """The header of a file. `expected` and `values` are read in a second step, which gives clearer errors."""

    schema: int
    name: Text
    about: Text
    expected: Any
    hours: Text
    hardware: Text
    command: Text
    values: Any
    base: Text | None = None


@dataclass(frozen=True, config=STRICT)
class _Value:
    """One entry of `values`. Whether the value suits its field is checked when the recipe is built."""

    value: Any
    provenance: Provenance
    source: Text


def list_recipes() -> list[str]:
    """Return the names of the packaged recipes, such as `imagenet/fbnetv3_b_proxy`."""
    # YAML files directly in the folder are data about recipes, so the pattern asks for one folder level.
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.yaml"))


def fine_tuning_recipe(images: int) -> str:
    """Return the name of the packaged recipe for fine-tuning on so many training images."""
    return "finetune/small" if images < SMALL_SET else "finetune/medium"


def load_recipe(name: str | Path) -> Recipe:
    """Return a packaged recipe by its name, or the recipe of a YAML file by its path.

    A custom file may also consist of the recipe's fields alone, one `field: value` per line.

    Raises:
        InputError: no such recipe, or a file with an unknown key, a missing key or a value out of range.
    """
    data, path = _read(name)
    return Recipe.from_dict(data, str(path)) if "values" not in data else read_recipe_file(name).recipe


def read_recipe_file(name: str | Path) -> RecipeFile:
    """Return a recipe with its header and the provenance of its values.

    Raises:
        InputError: as `load_recipe`, or a file without header and provenance.
    """
    data, path = _read(name)
    where = str(path)
    header = _header(data, where)
    values = _values(header.values, where)
    if header.base is not None:
        # The file's values win. Provenance and source come with each value, so they stay those of the file that names it.
        values = _base_values(header.base, where) | values
    # A text alone, such as "not measured", is an origin without an accuracy.
    expected = Expected(None, header.expected) if isinstance(header.expected, str) and header.expected else None
    return RecipeFile(
        name=header.name,
        about=header.about,
        expected=expected or read(Expected, header.expected, f"{where}: expected"),
        hours=header.hours,
        hardware=header.hardware,
        command=header.command,
        base=header.base,
        recipe=Recipe.from_dict({key: entry.value for key, entry in values.items()}, where),
        sources={key: (entry.provenance, entry.source) for key, entry in values.items()},
    )


def save_recipe(
    recipe: Recipe,
    path: str | Path,
    *,
    about: str,
    provenance: str,
    source: str,
    expected: str,
    hours: str = NOT_STATED,
    hardware: str = NOT_STATED,
    command: str = NOT_STATED,
) -> None:
    """Write a recipe file whose values all come from one source, such as a search.

    Raises:
        InputError: an unknown provenance, or a file that cannot be written.
    """
    if provenance not in PROVENANCES:
        raise InputError(f"provenance is {provenance!r}; allowed: {', '.join(PROVENANCES)}")
    values = {
        key: {"value": value, "provenance": provenance, "source": source} for key, value in recipe.to_dict().items()
    }
    header = {"schema": SCHEMA, "name": Path(path).stem, "about": about, "expected": expected}
    header |= {"hours": hours, "hardware": hardware, "command": command, "values": values}
    write_atomically(path, dump_yaml(header))


def _read(name: str | Path) -> tuple[dict[str, Any], Path]:
    """Return the content of a recipe file, not checked yet, and its path."""
    # The suffix distinguishes a path from a packaged name, which contains a slash too.
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if str(name) not in list_recipes():
            choices = available(name, list_recipes(), ", or give the path of a .yaml file", "fbnetv3 recipe list")
            raise InputError(f"unknown recipe {str(name)!r}; {choices}")
    return load_yaml(path, "recipe"), path


def _header(data: dict[str, Any], where: str) -> _Header:
    """Return the header of a file of schema 1 or 2. Schema 1 has no hours, hardware and command."""
    schema = data.get("schema")
    if schema not in (1, SCHEMA):
        raise InputError(f"{where}: schema is {schema!r}; this version reads 1 and {SCHEMA}")
    # Files that users wrote with schema 1 still load; only new files are written with schema 2.
    added = dict.fromkeys(("hours", "hardware", "command"), NOT_STATED) if schema == 1 else {}
    return read(_Header, added | data, where)


def _values(values: Any, where: str) -> dict[str, _Value]:
    """Return the entries of one file's `values`. Together with a base they make a recipe, so they may be incomplete."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: values is {values!r}; give a mapping of recipe fields")
    return {str(key): read(_Value, entry, f"{where}: values: {key}") for key, entry in values.items()}


def _base_values(base: str, where: str) -> dict[str, _Value]:
    """Return the values of the packaged recipe `base`, which must not have a base itself."""
    if base not in list_recipes():
        raise InputError(
            f"{where}: base is {base!r}, which is no recipe; {available(base, list_recipes(), command='fbnetv3 recipe list')}"
        )
    data, path = _read(base)
    header = _header(data, str(path))
    # One level only: a reader of a file then finds every value in at most two files.
    if header.base is not None:
        raise InputError(
            f"{where}: base is {base!r}, which has the base {header.base!r} itself; give that one, or a recipe without base"
        )
    return _values(header.values, str(path))
