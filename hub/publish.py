"""Publish weights into a custom zoo, which torch.hub serves: a checkpoint becomes a weight file, a registry row and a card.

A zoo is a folder with `registry.json`, the weights (or their URLs), `README.md` with the cards, and `hubconf.py`. So
`torch.hub.load(FOLDER, NAME, source="local", pretrained=True)` works, and from GitHub too once the folder is pushed there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fbnetv3.complexity import cost
from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.hub.cards import zoo_cards
from fbnetv3.hub.download import file_hash
from fbnetv3.hub.registry import REGISTRY, SCHEMA, Metric, RegisteredWeights, Registry, read_json, read_registry
from fbnetv3.networks.named import CUSTOM, NamedNetwork, network_to_dict
from fbnetv3.networks.weight_file import UNKNOWN, WeightFile, write_weight_file

SCRATCH = "scratch"
README = "README.md"
# What torch.hub imports in a zoo's folder. The entry points are made when it is imported, so that it stays valid when weights
# are added to the zoo.
HUBCONF = '''"""torch.hub reads this: the models of this zoo."""

dependencies = ["torch", "safetensors", "fbnetv3"]

from pathlib import Path  # noqa: E402

from fbnetv3.hub.entrypoints import zoo_entrypoints  # noqa: E402

globals().update(zoo_entrypoints(Path(__file__).parent))
'''


def publish_weights(
    file: WeightFile,
    zoo: str | Path,
    name: str,
    *,
    licence: str,
    source: str = "custom",
    trained_from: str | None = None,
    allow_noncommercial: bool = False,
    url: str = "",
    metrics: tuple[Metric, ...] = (),
    recipe: str = "",
    about: str = "",
    verified: str = "not stated",
    measure: Callable[[], Metric] | None = None,
) -> RegisteredWeights:
    """Write weights as a safetensors file named with their sha256, and their registry row and card, into a zoo's folder.

    Args:
        name: what users will load: letters, digits and `_`, beginning with a letter.
        licence: of the new weights. Weights that derive from non-commercial ones keep the licence of those.
        source: distinguishes several weights of one model.
        trained_from: `scratch`, or `model:source` of the registered weights that the training started from or that taught
            it. Needed if the file does not say it.
        allow_noncommercial: publish weights that derive from non-commercial ones, under the licence of those.
        metrics, recipe: by default those that the file has from its training.
        url: URL of the folder where users will find the weights; the file's name is appended. The default is the zoo's
            folder itself.
        measure: measures one more metric. It is called after all checks, because it may take long.

    Raises:
        InputError: a malformed or taken name, an unknown origin, non-commercial origins without `allow_noncommercial`, or a
            folder that cannot be written. The zoo is unchanged then.
    """
    zoo = Path(zoo)
    with lock_folder(zoo, "publishing"):
        existing = read_registry(zoo) if (zoo / REGISTRY).exists() else Registry(())
        _check_names(file, zoo, existing, name, source)
        # The licence of an origin binds the new weights too, so the origins must be known before anything is published.
        file = dataclasses.replace(file, derived_from=_origins(file.derived_from, trained_from))
        known = (*read_registry().rows, *existing.rows)
        licence, noncommercial = _inherited_licence(file.derived_from, known, licence, allow_noncommercial)
        file.build()  # raises unless the weights fit; nothing is written yet
        if not (zoo / REGISTRY).exists() and (zoo / README).exists():
            raise InputError(
                f"{zoo / README} is not that of a zoo, and would be replaced; move it, or give another folder"
            )
        if measure is not None:
            metrics = (*metrics, measure())
        path, digest = _write(file, zoo, name)
        flops, params = _costs(file)
        row = {
            "model": name,
            "source": source,
            "arch": network_to_dict(file.arch),
            # A name without scheme is a file beside the registry, so that a zoo's folder can be moved.
            "url": f"{url.rstrip('/')}/{path.name}" if url else path.name,
            "sha256": digest,
            **file.transforms.to_dict(),
            "classes": file.classes if isinstance(file.classes, str) else list(file.classes),
            "licence": licence,
            "noncommercial": noncommercial,
            "metrics": [dataclasses.asdict(metric) for metric in metrics or _metrics(file)],
            "flops_m": flops / 1e6,
            "params_m": params / 1e6,
            "recipe": recipe or _recipe(file),
            "about": about or f"{file.arch.name}, published with `fbnetv3 weights publish`.",
            "verified": verified,
            "derived_from": list(file.derived_from),
        }
        # The registry comes after the weights, so that a crash between the two leaves a zoo whose rows all have their file.
        _add_row(zoo, row)
        registry = read_registry(zoo)
        write_atomically(zoo / README, zoo_cards(registry))
        if not (zoo / "hubconf.py").exists():  # the user may have changed it
            write_atomically(zoo / "hubconf.py", HUBCONF)
        return registry.find(name, source)


def _costs(file: WeightFile) -> tuple[float, float]:
    """Return FLOPs and parameters in the published convention; of other networks, those that a run counts."""
    side, in_chans = file.transforms.crop, file.transforms.in_chans
    if isinstance(file.arch, NamedNetwork):
        counted = file.arch.cost(file.num_classes, in_chans, side)
        return counted["flops"], counted["params"]
    costs = cost(file.arch, file.num_classes, in_chans, side)
    return costs.flops(), costs.params()


def _recipe(file: WeightFile) -> str:
    recipe = file.training.get("recipe")
    return f"inline: {json.dumps(recipe)}" if recipe else "not given"


def _metrics(file: WeightFile) -> tuple[Metric, ...]:
    """Return the accuracies that were measured at the end of the training."""
    metrics = file.training.get("metrics", {})
    split = "test" if "test_acc1" in metrics else "val"
    origin = f"measured after its training: {split} images of {file.training.get('data')}"
    return tuple(
        Metric(name.removeprefix(f"{split}_"), value, origin)
        for name, value in metrics.items()
        if name.startswith(f"{split}_") and value is not None
    )


def _check_names(file: WeightFile, zoo: Path, existing: Registry, name: str, source: str) -> None:
    """Raise `InputError` unless name and source are well-formed, free, and the name means one network that others can build."""
    if isinstance(file.arch, NamedNetwork) and file.arch.source == CUSTOM:
        raise InputError(
            f"the weights are of {file.arch.name}, a network of your own code, which the users of a zoo do not have; publish "
            "networks of this package, timm or torchvision"
        )
    for what, text in (("name", name), ("source", source)):
        if not re.fullmatch(r"[A-Za-z]\w*", text, re.ASCII):
            raise InputError(f"{what} is {text!r}; allowed: letters, digits and _, beginning with a letter")
    if existing.by_id(f"{name}:{source}") is not None:
        raise InputError(f"{zoo} has weights {source!r} of {name} already; give another --name or --source")
    # The sources of one model are weights of one network. torch.hub users choose between them by `weights`.
    if existing.rows_of(name) and existing.find(name).arch != file.arch:
        raise InputError(f"{name} of {zoo} is another network; give another --name")


def _origins(known: tuple[str, ...], stated: str | None) -> tuple[str, ...]:
    """Return the ids of the weights that a training started from, as the file says it or, if it does not, the user.

    Raises:
        InputError: neither says it, or they contradict each other.
    """
    if UNKNOWN not in known:
        if stated is not None and (stated,) != (known or (SCRATCH,)):
            raise InputError(
                f"the file says that it was trained from {', '.join(known) or SCRATCH}, not from {stated}; leave out "
                "--trained-from"
            )
        return known
    if stated is None:
        raise InputError(
            f"the file does not say what it was trained from; give --trained-from {SCRATCH} or MODEL:SOURCE, "
            "since the licence of those weights binds these"
        )
    return () if stated == SCRATCH else (stated,)


def _inherited_licence(
    origins: tuple[str, ...], known: tuple[RegisteredWeights, ...], licence: str, allow_noncommercial: bool
) -> tuple[str, bool]:
    """Return the licence of weights with these origins, and whether it is non-commercial.

    Raises:
        InputError: an unknown origin, or a non-commercial one without `allow_noncommercial`.
    """
    # `derived_from` lists all ancestors, so a non-commercial licence is found however far back it is.
    by_id = {row.id: row for row in known}
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
    """Write the weights under a name with the first digits of their sha256; return the path and the whole sha256."""
    temporary = zoo / f".{name}.safetensors"  # the hash, and so the name, is known only after writing
    try:
        write_weight_file(temporary, file)
        digest = file_hash(temporary)
        path = zoo / f"{name}-{digest[:8]}.safetensors"
        os.replace(temporary, path)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)
    return path, digest


def _add_row(zoo: Path, row: dict[str, Any]) -> None:
    """Add a row to the zoo's registry, which is created if there is none."""
    path = zoo / REGISTRY
    empty: dict[str, Any] = {"schema": SCHEMA, "sources": {}, "weights": []}
    data = read_json(path) if path.exists() else empty
    data["sources"].setdefault(row["source"], {})  # the reader asks for an entry, even if nothing is shared
    data["weights"].append(row)
    write_atomically(path, json.dumps(data, indent=1) + "\n")
