"""What a search is made from: the copies in its folder, and the check that they, and the costs of its trials, did not change.

```
inputs/space/NAME.yaml      the space; what it takes from the data is written there in numbers
inputs/recipe/NAME.yaml     the base recipe, with all its values
inputs/latency/NAME.json    the latency table, if the search has one
inputs/source/1.json        the trainings of the first earlier search that it starts from, and so on
inputs/config.yaml          the configuration as it began, to name what was changed in it since
```

`config.yaml` names the copies by their paths below its folder, and has their sha256. So the folder can be moved, and no file
outside it changes what its numbers mean. Versions before this one kept only the names of the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import operator
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fbnetv3.errors import InputError, quote
from fbnetv3.recipes import list_recipes
from fbnetv3.schema import dump_yaml, load_yaml
from fbnetv3.search.nars.config import SUFFIXES, WITHOUT_EFFECT, Contents, SearchConfig, read_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.reader import filled, space_path, takes_from_data
from fbnetv3.search.trial import Planned
from fbnetv3.training.data.spec import absolute_spec

INPUTS, SOURCE = "inputs", "source"
COPY = f"{INPUTS}/config.yaml"


def take_inputs(context: Context, images: str | None) -> tuple[SearchConfig, dict[str, bytes]]:
    """Return the configuration as a folder keeps it, and the files that it names by their paths below the folder.

    Args:
        images: what identifies the images of the data; None if they were not opened.

    Raises:
        InputError: a file cannot be read.
    """
    config = context.config
    space, recipe = space_path(config.space), config.recipe
    # The base of a recipe is resolved, since the package may have another one later.
    name = recipe if recipe in list_recipes() else Path(recipe).stem
    if context.shape is not None and takes_from_data(config.space):
        content = filled(config.space, context.shape)
    else:
        content = _content(space, "search space")
    files = {
        "space": (f"{INPUTS}/space/{space.name}", content),
        "recipe": (f"{INPUTS}/recipe/{name}.yaml", dump_yaml(context.base.to_dict()).encode()),
    }
    if config.latency is not None:
        table = Path(config.latency.table)
        files["latency"] = (f"{INPUTS}/latency/{table.name}", _content(table, "latency table"))
    hashes = {key: _hash(data) for key, (_, data) in files.items()}
    sources = {f"{INPUTS}/{SOURCE}/{i}.json": source.to_bytes() for i, source in enumerate(context.sources, 1)}
    contents = Contents(**hashes, data=images, warm_start=tuple(map(_hash, sources.values())))
    data = context.data and absolute_spec(context.data)
    kept = dataclasses.replace(config, data=data, contents=contents)
    paths = {key: path for key, (path, _) in files.items()} | _numbered(list(sources))
    return with_paths(kept, paths), dict(files.values()) | sources


def locate_inputs(config: SearchConfig, folder: Path) -> SearchConfig:
    """Return the configuration of a folder with paths that can be opened. One without copies stays as it is."""
    if config.contents is None:
        return config
    return with_paths(config, {key: str(folder / path) for key, path in input_paths(config).items()})


def check_inputs(config: SearchConfig, folder: Path) -> None:
    """Check that the copies in a folder are what its configuration was written with.

    Raises:
        InputError: a copy is missing or was changed, or the configuration names a file outside the folder.
    """
    if config.contents is None:
        return
    hashes = dataclasses.asdict(config.contents) | _numbered(config.contents.warm_start)
    for key, name in input_paths(config).items():
        if not PurePosixPath(name).is_relative_to(INPUTS) or ".." in PurePosixPath(name).parts:
            raise InputError(
                f"{folder}: {key} is {quote(name)}; a search has its files below {INPUTS}/ in its folder (those of "
                "`fbnetv3 search compare` share their files, and can be used by it alone)"
            )
        try:
            found = _hash((folder / name).read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {folder / name}: {error.strerror}; restore it") from None
        if found != hashes.get(key):
            raise InputError(
                f"{folder / name} was changed after the search began; restore it, or start another search with it"
            )


def check_settings(config: SearchConfig, folder: Path, began_with: str) -> None:
    """Check that the settings of a search are still those that its ledger belongs to.

    Nothing is said where the copy of the configuration is missing or not that of the ledger, which is refused later.

    Args:
        began_with: fingerprint of the configuration in the ledger.

    Raises:
        InputError: a setting was changed. The message names all that were.
    """
    if config.fingerprint == began_with:
        return
    try:
        began = read_config(load_yaml(folder / COPY, "search configuration"), str(folder / COPY))
    except InputError:  # of an earlier version, or damaged
        return
    if began.fingerprint == began_with:
        raise InputError(
            f"{folder} holds the trainings of another configuration: {'; '.join(changes(began, config))}. Set it back, or "
            "start another search with it"
        )


def changes(before: SearchConfig, now: SearchConfig) -> list[str]:
    """Return what was changed from one configuration to another, apart from settings that no result depends on."""
    old, new = _flat(before.to_dict()), _flat(now.to_dict())
    keys = [key for key in dict.fromkeys([*old, *new]) if key.partition(".")[0] not in (*WITHOUT_EFFECT, "data")]
    return [
        f"{key} is {quote(new.get(key))} and was {quote(old.get(key))}" for key in keys if old.get(key) != new.get(key)
    ]


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return settings with the names of those inside others joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def check_paths(config: SearchConfig, folder: Path) -> None:
    """Check that the files are there that a folder without copies names.

    Raises:
        InputError: one is not there.
    """
    missing = [name for name in input_paths(config).values() if name.endswith(SUFFIXES) and not Path(name).is_file()]
    if missing and config.contents is None:
        raise InputError(
            f"no file {missing[0]}: the search in {folder} was started by an earlier version, which made no copy of it; call "
            "from the working folder in which the search was started"
        )


def check_costs(context: Context, trials: Sequence[Planned], ledger: Path) -> None:
    """Check that the space still gives every trial the costs that it was recorded with.

    Trials whose candidates the space does not have are left out; `foreign_trial` finds them.

    Raises:
        InputError: a trial has other costs. The message names the file that changed.
    """
    config, space = context.config, context.space
    sizes = space.sizes.tolist()
    known = [t for t in trials if len(t.candidate) == len(sizes) and all(map(operator.lt, t.candidate, sizes))]
    if not known:
        return
    costs = space.cost(np.array([trial.candidate for trial in known]))
    now = zip(costs.flops(config.constraint.convention).tolist(), costs.params().tolist(), strict=True)
    for trial, (flops, params) in zip(known, now, strict=True):
        if (trial.flops, trial.params) != (flops, params):
            # With copies, which were checked, only the ledger can be wrong.
            changed = str(ledger) if config.contents else f"the space {config.space}"
            raise InputError(
                f"{ledger}: trial {trial.index} of round {trial.round} has {trial.flops:,} FLOPs and {trial.params:,} "
                f"parameters, but space {space.name} now says {flops:,} and {params:,}: {changed} was changed after the search "
                "began; restore it"
            )


def recipe_name(config: SearchConfig) -> str:
    """Return the name of the base recipe as it was given, without the place of its copy."""
    _, copied, name = config.recipe.rpartition(f"{INPUTS}/recipe/")
    return name.removesuffix(".yaml") if copied else config.recipe


def input_paths(config: SearchConfig) -> dict[str, str]:
    """Return the files that a configuration names: space, recipe, latency table and sources."""
    paths = {"space": config.space, "recipe": config.recipe} | _numbered(config.warm_start)
    return paths if config.latency is None else paths | {"latency": config.latency.table}


def with_paths(config: SearchConfig, paths: dict[str, str]) -> SearchConfig:
    """Return the configuration with other names of the same files."""
    latency = config.latency and dataclasses.replace(config.latency, table=paths["latency"])
    sources = tuple(path for key, path in paths.items() if key.startswith(SOURCE))
    return dataclasses.replace(
        config, space=paths["space"], recipe=paths["recipe"], latency=latency, warm_start=sources
    )


def _numbered(sources: Collection[str]) -> dict[str, str]:
    """Return what there is of every source by the source's name in messages."""
    return {f"{SOURCE} {i}": value for i, value in enumerate(sources, 1)}


def _content(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}; give the path of one") from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
