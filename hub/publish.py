"""Publishing: a checkpoint becomes a file of weights, a registry row and a card in an own zoo, which torch.hub serves.

A zoo is a folder: `registry.json`, the weights (or URLs of them), `README.md` with the cards, and a `hubconf.py`, so that
`torch.hub.load(FOLDER, NAME, source="local", pretrained=True)` works, and from GitHub too once it is pushed there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

from fbnetv3.complexity import cost
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.hub.cards import zoo_cards
from fbnetv3.hub.download import file_hash
from fbnetv3.hub.registry import REGISTRY, SCHEMA, Metric, Registry, Weights, read_json, read_registry
from fbnetv3.weight_file import UNKNOWN, WeightFile, write_weight_file

SCRATCH = "scratch"
HUBCONF = '''"""torch.hub reads this: the models of this zoo."""

dependencies = ["torch", "safetensors", "fbnetv3"]

from pathlib import Path  # noqa: E402

from fbnetv3.hub.entrypoints import zoo_entrypoints  # noqa: E402

globals().update(zoo_entrypoints(Path(__file__).parent))
'''


def publish(
    file: WeightFile,
    zoo: str | Path,
    name: str,
    *,
    licence: str,
    source: str = "own",
    trained_from: str | None = None,
    allow_noncommercial: bool = False,
    url: str = "",
    metrics: tuple[Metric, ...] = (),
    recipe: str = "not given",
    about: str = "",
    verified: str = "not stated",
) -> Weights:
    """Write weights as safetensors named with their sha256, their registry row and card into a zoo's folder.

    Args:
        name: what users will load: letters, digits, `_`, beginning with a letter.
        licence: of the new weights; weights derived from non-commercial ones keep the licence of those.
        source: tells several weights of one model apart.
        trained_from: `scratch`, or `model:source` of the registered weights that training began with (or that taught
            it); needed if the file does not say.
        allow_noncommercial: publish weights derived from non-commercial ones, as such.
        url: where the weights will lie for users; the file's name is appended. By default beside the registry.

    Raises:
        InputError: a bad or taken name, an unknown origin, non-commercial origins without leave, or a folder that cannot
            be written; the zoo is as it was then.
    """
    for what, text in (("name", name), ("source", source)):
        if not re.fullmatch(r"[A-Za-z]\w*", text, re.ASCII):
            raise InputError(f"{what} is {text!r}; allowed: letters, digits and _, beginning with a letter")
    zoo = Path(zoo)
    own = read_registry(zoo) if (zoo / REGISTRY).exists() else Registry(())
    if own.by_id(f"{name}:{source}") is not None:
        raise InputError(f"{zoo} has weights {source!r} of {name} already; give another --name or --source")
    if own.of(name) and own.find(name).arch != file.arch:
        raise InputError(f"{name} of {zoo} is another network; give another --name")
    file = dataclasses.replace(file, derived_from=_origins(file.derived_from, trained_from))
    licence, noncommercial = _licence(
        file.derived_from, (*read_registry().rows, *own.rows), licence, allow_noncommercial
    )
    file.build()  # the weights fit, or nothing is written
    make_folder(zoo)
    path, digest = _write(file, zoo, name)
    costs = cost(file.arch, _count(file), file.transforms.in_chans, file.transforms.crop)
    transforms = file.transforms.to_dict()
    row = {
        "model": name,
        "source": source,
        "arch": file.arch.to_dict(),
        "url": f"{url.rstrip('/')}/{path.name}" if url else path.name,
        "sha256": digest,
        **transforms,
        "classes": file.classes if isinstance(file.classes, str) else list(file.classes),
        "licence": licence,
        "noncommercial": noncommercial,
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "flops_m": costs.flops() / 1e6,
        "params_m": costs.params() / 1e6,
        "recipe": recipe,
        "about": about or f"{file.arch.name}, published with `fbnetv3 weights publish`.",
        "verified": verified,
        "derived_from": list(file.derived_from),
    }
    _add_row(zoo, row)
    registry = read_registry(zoo)
    write_atomically(zoo / "README.md", zoo_cards(registry))
    if not (zoo / "hubconf.py").exists():
        write_atomically(zoo / "hubconf.py", HUBCONF)
    return registry.find(name, source)


def _origins(known: tuple[str, ...], stated: str | None) -> tuple[str, ...]:
    """What the weights were trained from, as the file says or else as the user states."""
    if UNKNOWN not in known:
        if stated is not None and (stated,) != (known or (SCRATCH,)):
            raise InputError(f"the file says trained from {', '.join(known) or SCRATCH}, not from {stated}")
        return known
    if stated is None:
        raise InputError(
            f"the file does not say what it was trained from; give --trained-from {SCRATCH} or MODEL:SOURCE, "
            "since the licence of those weights binds these"
        )
    return () if stated == SCRATCH else (stated,)


def _licence(
    origins: tuple[str, ...], rows: tuple[Weights, ...], licence: str, allow_noncommercial: bool
) -> tuple[str, bool]:
    """The licence that the origins leave, and whether it is non-commercial."""
    by_id = {row.id: row for row in rows}
    for origin in origins:
        if origin not in by_id:
            raise InputError(f"trained from {origin!r}, which no registry knows; available: {', '.join(by_id)}")
        row = by_id[origin]
        if row.noncommercial and not allow_noncommercial:
            raise InputError(
                f"the weights derive from {origin}, licensed {row.licence}: they may not be published for commercial use; "
                f"give --allow-noncommercial to publish them under {row.licence}"
            )
        if row.noncommercial:
            return row.licence, True
    return licence, False


def _write(file: WeightFile, zoo: Path, name: str) -> tuple[Path, str]:
    """The weights under a name that holds the first digits of their sha256, and all of it."""
    unnamed = zoo / f".{name}.safetensors"
    try:
        write_weight_file(unnamed, file)
        digest = file_hash(unnamed)
        path = zoo / f"{name}-{digest[:8]}.safetensors"
        os.replace(unnamed, path)  # noqa: PTH105
    finally:
        unnamed.unlink(missing_ok=True)
    return path, digest


def _add_row(zoo: Path, row: dict[str, Any]) -> None:
    path = zoo / REGISTRY
    empty: dict[str, Any] = {"schema": SCHEMA, "sources": {}, "weights": []}
    data = read_json(path) if path.exists() else empty
    data["sources"].setdefault(row["source"], {})
    data["weights"].append(row)
    write_atomically(path, json.dumps(data, indent=1) + "\n")


def _count(file: WeightFile) -> int:
    return len(file.state["classifier.weight"])
