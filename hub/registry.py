"""The registry: which weights there are for every model, and what is known about them, as data (`registry.json`).

A row describes one weight file: where it is, its licence, how images are prepared for it, its metrics with their origins, its
costs, recipe and classes. The values that all rows of a source share are written once, under `sources`. A custom zoo (see
`fbnetv3 weights publish`) has a registry of the same form in its folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import SHORT_LIST, InputError, available, check_keys, quote
from fbnetv3.files import is_file
from fbnetv3.hub.download import cache_path, is_downloaded
from fbnetv3.networks.named import NamedNetwork, network_from_dict
from fbnetv3.schema import load_json
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
    arch: Arch | NamedNetwork  # the network that the weights fit; timm's weights of B fit `fbnetv3_b_same_padding`
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
        raise InputError(f"{path}: schema is {quote(data.get('schema'))}; this version reads {SCHEMA}: update fbnetv3")
    rows = []
    for i, row in enumerate(data["weights"]):
        if not isinstance(row, dict):
            raise InputError(f"{path}: weights[{i}] is {quote(row)}; allowed: a mapping")
        source = row.get("source")
        if not isinstance(source, str) or source not in data["sources"]:
            known = ", ".join(list(data["sources"])[:SHORT_LIST])
            raise InputError(f"{path}: source {quote(source)} is not among the sources: {known}")
        shared = data["sources"][source]
        if not isinstance(shared, dict):
            raise InputError(f"{path}: sources: {source} is {quote(shared)}; allowed: a mapping")
        # What a row says itself wins over what its source says for all rows.
        rows.append(_row({**shared, **row}, path))
    return Registry(tuple(rows))


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a registry file, whose rows are not checked yet.

    Raises:
        InputError: no such file, or a damaged one.
    """
    if not is_file(path):
        raise InputError(f"no registry at {path}: no such file; give the folder of a zoo")
    data = load_json(path, "registry of a zoo")
    if isinstance(data, dict) and isinstance(data.get("sources"), dict) and isinstance(data.get("weights"), list):
        return data
    raise InputError(f"{path} is no registry: it needs `sources` and `weights`")


def _row(data: Mapping[str, Any], path: Path) -> RegisteredWeights:
    """Return the row that a mapping of the file `path` describes, strictly read."""
    where = f"{path}: {str(data.get('model'))[:80]}:{data.get('source')}"
    # In the file the preprocessing is five keys of the row, so that sources can share some of them.
    preprocessing = {key: data[key] for key in ("resize", "crop", "mean", "std", "interpolation") if key in data}
    fields: dict[str, Any] = {"classes": [], "metrics": []}  # may be missing
    fields |= {key: value for key, value in data.items() if key not in preprocessing}
    fields["transforms"] = Transforms.from_dict(preprocessing, where)
    check_keys(fields, RegisteredWeights, where)
    for key, allowed in _ALLOWED.items():
        if key in fields and not allowed.fits(fields[key]):
            raise InputError(f"{where}: {key} is {quote(fields[key])}; allowed: {allowed.text}")
    arch = data["arch"]
    fields["arch"] = network_from_dict(arch, where) if isinstance(arch, Mapping) else find_arch(arch)
    fields["url"] = _location(data["url"], path.parent, where)
    fields["metrics"] = tuple(_metric(metric, where) for metric in fields["metrics"])
    # JSON has lists only.
    fields |= {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return RegisteredWeights(**fields)


def _metric(data: Any, where: str) -> Metric:
    fields = check_keys(data, Metric, f"{where}: metrics")
    for key, allowed in _METRIC.items():
        if not allowed.fits(fields[key]):
            raise InputError(f"{where}: metrics: {key} is {quote(fields[key])}; allowed: {allowed.text}")
    return Metric(**fields)


def _location(url: str, folder: Path, where: str) -> str:
    """Return a URL as it is, or that of a file in the folder of the registry.

    A registry that somebody else wrote must not lead to other files of this machine.
    """
    if is_downloaded(url):
        return url
    folder = folder.resolve()
    path = cache_path(url) if "://" in url else folder / url
    if "\0" in url or not Path(os.path.normpath(path)).is_relative_to(folder):
        raise InputError(f"{where}: url is {quote(url)}; allowed: a URL on the web, or a file in {folder}")
    return path.as_uri()


class _Allowed(NamedTuple):
    """What the value of a key may be."""

    text: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_TEXT = _Allowed("a text", lambda value: isinstance(value, str))
_NUMBER = _Allowed("a number from 0", _is_number)
_TEXTS = _Allowed("a list of texts", _are_texts)
_METRIC = {"name": _TEXT, "value": _NUMBER, "origin": _TEXT}
_ALLOWED = {
    **dict.fromkeys(("model", "source", "url", "licence", "recipe", "about", "verified"), _TEXT),
    "arch": _Allowed("a name or a mapping", lambda value: isinstance(value, str | dict)),
    "noncommercial": _Allowed("true, false", lambda value: isinstance(value, bool)),
    "flops_m": _NUMBER,
    "params_m": _NUMBER,
    "classes": _Allowed("a list of names, or imagenet1k", lambda value: value == "imagenet1k" or _are_texts(value)),
    "metrics": _Allowed("a list", lambda value: isinstance(value, list)),
    "derived_from": _TEXTS,
    "sha256": _Allowed(
        "hexadecimal digits, or null",
        lambda value: value is None or (isinstance(value, str) and re.fullmatch(r"[0-9a-f]{1,64}", value) is not None),
    ),
}
