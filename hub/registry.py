"""The registry: which weights there are for every model, and what is known about them, as data (`registry.json`).

A row describes one weight file: where it is, its licence, how images are prepared for it, its metrics with their origins, its
costs, recipe and classes. The values that all rows of a source share are written once, under `sources`. A custom zoo (see
`fbnetv3 weights publish`) has a registry of the same form in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import InputError, available, check_keys
from fbnetv3.hub.download import cache_path
from fbnetv3.transforms import Transforms

SCHEMA = 1
REGISTRY = "registry.json"


@dataclass(frozen=True)
class Metric:
    """An accuracy in percent and its origin. It is quoted from there, unless the origin says that it was measured here."""

    name: str  # acc1 | acc5
    value: float
    origin: str


@dataclass(frozen=True)
class RegisteredWeights:
    """One row of the registry: a weight file and what is known about it.

    FLOPs and params are in millions, in the published convention, for images of `transforms.crop` pixels.
    """

    model: str  # the name that users ask for
    source: str  # which of the model's weights: `fb`, `timm_ra2`, or a name in a custom zoo
    arch: Arch  # the network that the weights fit; timm's weights of B fit `fbnetv3_b_same_padding`
    url: str
    transforms: Transforms
    classes: tuple[str, ...] | str
    licence: str
    noncommercial: bool
    metrics: tuple[Metric, ...]
    flops_m: float
    params_m: float
    recipe: str
    about: str
    verified: str  # what was checked here, and what was not
    sha256: str | None = None  # published hash of the file, or its first digits
    derived_from: tuple[str, ...] = ()  # ids of the weights that these were trained from

    @property
    def id(self) -> str:
        """The name `model:source`."""
        return f"{self.model}:{self.source}"

    @property
    def path(self) -> Path:
        """The path of the file, before and after it is downloaded."""
        return cache_path(self.url, f"{self.model}-{self.source}")

    def metric(self, name: str, origin: str) -> float | None:
        """Return a metric in percent from one origin, or None if that origin does not give it."""
        return next((m.value for m in self.metrics if (m.name, m.origin) == (name, origin)), None)


@dataclass(frozen=True)
class Registry:
    """The rows of all models. The first row of a model is what `pretrained=True` loads."""

    rows: tuple[RegisteredWeights, ...]

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that have weights, in the order of the file."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    def rows_of(self, model: str) -> tuple[RegisteredWeights, ...]:
        """Return the rows of a model, an empty tuple if there are none."""
        return tuple(row for row in self.rows if row.model == model)

    def find(self, model: str, source: str | None = None) -> RegisteredWeights:
        """Return the row of a model and a source, or without `source` the model's first row.

        Raises:
            InputError: no such row; the message lists the existing ones.
        """
        rows = self.rows_of(model)
        for row in rows:
            if source in (None, row.source):
                return row
        if not rows:
            raise InputError(f"no weights of {model!r} are published; {available(model, self.models())}")
        choices = available(source, [row.source for row in rows], ", or a path or URL")
        raise InputError(f"no weights {source!r} of {model}; {choices}")

    def by_id(self, weights_id: str) -> RegisteredWeights | None:
        """Return the row with the name `model:source`, or None if there is none."""
        return next((row for row in self.rows if row.id == weights_id), None)


def read_registry(folder: str | Path | None = None) -> Registry:
    """Read the registry of the package, or of a custom zoo.

    Args:
        folder: the folder of a custom zoo. A URL without a scheme in its registry is a file in this folder.

    Raises:
        InputError: no registry, or a damaged one; the message names the row and the key.
    """
    path = (Path(__file__).parent if folder is None else Path(folder)) / REGISTRY
    data = read_json(path)
    # A newer schema may mean other things by the same keys, so it is not guessed at.
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema is {data.get('schema')!r}; this version reads {SCHEMA}: update fbnetv3")
    rows = []
    for row in data["weights"]:
        source = row.get("source")
        if source not in data["sources"]:
            raise InputError(f"{path}: source {source!r} is not among the sources: {', '.join(data['sources'])}")
        # What a row says itself wins over what its source says for all rows.
        rows.append(_row({**data["sources"][source], **row}, path))
    return Registry(tuple(rows))


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a registry file, whose rows are not checked yet.

    Raises:
        InputError: no such file, or a damaged one.
    """
    try:
        data = json.loads(path.read_text())
        if isinstance(data, dict) and isinstance(data.get("sources"), dict) and isinstance(data.get("weights"), list):
            return data
    except OSError as error:
        raise InputError(f"no registry at {path}: {error.strerror}; give the folder of a zoo") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; restore the file, or give the folder of another zoo") from None
    raise InputError(f"{path} is no registry: it needs `sources` and `weights`")


def _row(data: Mapping[str, Any], path: Path) -> RegisteredWeights:
    """Return the row that a mapping of the file `path` describes, strictly read."""
    where = f"{path}: {data.get('model')}:{data.get('source')}"
    # In the file the preprocessing is five keys of the row, so that sources can share some of them.
    preprocessing = {key: data[key] for key in ("resize", "crop", "mean", "std", "interpolation") if key in data}
    arch, url = data.get("arch"), str(data.get("url"))
    fields: dict[str, Any] = {
        **{key: value for key, value in data.items() if key not in preprocessing},
        "transforms": Transforms.from_dict(preprocessing, where),
        "arch": Arch.from_dict(arch, where) if isinstance(arch, Mapping) else find_arch(str(arch)),
        "url": url if "://" in url else (path.parent.resolve() / url).as_uri(),
        "classes": data["classes"] if isinstance(data.get("classes"), str) else tuple(data.get("classes", ())),
        "metrics": tuple(Metric(**check_keys(m, Metric, where)) for m in data.get("metrics", ())),
        "derived_from": tuple(data.get("derived_from", ())),
    }
    return RegisteredWeights(**check_keys(fields, RegisteredWeights, where))
