"""The registry: for every model its weights, as data (`registry.json`), and what is known of them.

A row is one file of weights: where it lies, its licence, how pictures are prepared, its metrics with their origin, its
costs, recipe and classes. What all rows of a source share stands once, under `sources`. An own zoo (`fbnetv3 weights
publish`) has a registry of the same form in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import InputError, check_keys
from fbnetv3.hub.download import cache_path
from fbnetv3.transforms import Transforms

SCHEMA = 1
REGISTRY = "registry.json"


@dataclass(frozen=True)
class Metric:
    """A number in percent, and who says so: it is quoted from there, not measured here, unless the origin says 'here'."""

    name: str  # acc1 | acc5
    value: float
    origin: str


@dataclass(frozen=True)
class Weights:
    """One file of weights. FLOPs and params in millions, in the published convention, at `transforms.crop`."""

    model: str  # the name that users ask for
    source: str  # which of the model's weights: `fb`, `timm_ra2`, or an own zoo's
    arch: Arch  # what they fit; timm's B is `fbnetv3_b_same_padding`
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
    verified: str  # what was and was not checked here
    sha256: str | None = None  # of the file, or its first digits, where published
    derived_from: tuple[str, ...] = ()  # ids of the weights that these were trained from

    @property
    def id(self) -> str:
        """`model:source`."""
        return f"{self.model}:{self.source}"

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie once it is downloaded."""
        return cache_path(self.url, f"{self.model}-{self.source}")

    def metric(self, name: str, origin: str) -> float | None:
        """A metric in percent as one origin gives it, None if it does not."""
        return next((m.value for m in self.metrics if (m.name, m.origin) == (name, origin)), None)


@dataclass(frozen=True)
class Registry:
    """Rows by model; a model's first row is what `pretrained=True` takes."""

    rows: tuple[Weights, ...]

    def models(self) -> tuple[str, ...]:
        """Names with weights, in order."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    def of(self, model: str) -> tuple[Weights, ...]:
        """The rows of a model; none if there are none."""
        return tuple(row for row in self.rows if row.model == model)

    def find(self, model: str, source: str | None = None) -> Weights:
        """The row of a model, its first without a `source`.

        Raises:
            InputError: no such row; the message names those that there are.
        """
        rows = self.of(model)
        for row in rows:
            if source in (None, row.source):
                return row
        if not rows:
            raise InputError(f"no weights of {model!r} are published; there are some of {', '.join(self.models())}")
        raise InputError(
            f"no weights {source!r} of {model}; available: {', '.join(row.source for row in rows)}, or a path or URL"
        )

    def by_id(self, weights_id: str) -> Weights | None:
        """The row called `model:source`, None if it is not here."""
        return next((row for row in self.rows if row.id == weights_id), None)


def read_registry(folder: str | Path | None = None) -> Registry:
    """The registry of the package, or that of an own zoo's folder, whose files lie beside it unless a URL says otherwise.

    Raises:
        InputError: no registry there, or a damaged one; the message names the row and key.
    """
    path = (Path(__file__).parent if folder is None else Path(folder)) / REGISTRY
    data = read_json(path)
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema is {data.get('schema')!r}; this version reads {SCHEMA}: update fbnetv3")
    rows = []
    for row in data["weights"]:
        source = row.get("source")
        if source not in data["sources"]:
            raise InputError(f"{path}: source {source!r} is not among the sources: {', '.join(data['sources'])}")
        rows.append(_row({**data["sources"][source], **row}, path))
    return Registry(tuple(rows))


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a registry file, as it stands.

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
        raise InputError(f"{path} is damaged: {error}") from None
    raise InputError(f"{path} is no registry: it needs `sources` and `weights`")


def _row(data: Mapping[str, Any], path: Path) -> Weights:
    where = f"{path}: {data.get('model')}:{data.get('source')}"
    shared = {key: data[key] for key in ("resize", "crop", "mean", "std", "interpolation") if key in data}
    arch, url = data.get("arch"), str(data.get("url"))
    fields: dict[str, Any] = {
        **{key: value for key, value in data.items() if key not in shared},
        "transforms": Transforms.from_dict(shared, where),
        "arch": Arch.from_dict(arch, where) if isinstance(arch, Mapping) else find_arch(str(arch)),
        "url": url if "://" in url else (path.parent.resolve() / url).as_uri(),
        "classes": data["classes"] if isinstance(data.get("classes"), str) else tuple(data.get("classes", ())),
        "metrics": tuple(Metric(**check_keys(m, Metric, where)) for m in data.get("metrics", ())),
        "derived_from": tuple(data.get("derived_from", ())),
    }
    return Weights(**check_keys(fields, Weights, where))
