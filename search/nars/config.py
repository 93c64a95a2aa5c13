"""Everything that a search does, as data: the presets of the package, and the `config.yaml` of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.counts import MAX_SEED
from fbnetv3.device import AUTO
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.schema import STRICT, dump_yaml, find_yaml, list_yaml, load_yaml, read
from fbnetv3.search.nars.evolve import PRESETS as EVOLUTIONS
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.predictor.settings import PRESETS as PREDICTORS
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.latency import LatencyLimit
from fbnetv3.search.space.table_file import SUFFIXES as TABLES
from fbnetv3.training.data.spec import absolute_spec

SCHEMA = 1
PRESETS = Path(__file__).parent / "presets"
SUFFIXES = (".yaml", ".yml", *TABLES)  # of files; everything else is a name of the package
# Settings that may be changed: the baseline is another search, extensions change no training before them, more seeds change no
# answer, and readers change the speed alone.
WITHOUT_EFFECT = ("baseline", "extensions", "confirm", "about", "readers")
Count = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]  # YAML knows lists alone


@dataclass(frozen=True, config=STRICT)
class Contents:
    """What the files of a search held when it began: their sha256, and which images its data had.

    The folder of a search has copies of the files. Without this record, a search was begun by a version that made no copies.
    """

    space: str
    recipe: str
    latency: str | None = None
    data: str | None = None  # None if the search did not open its data
    warm_start: Texts = ()


@dataclass(frozen=True, config=STRICT)
class SearchConfig:
    """All settings of a search. Names in brackets are those of Algorithm 1."""

    schema: int
    name: str
    about: str
    space: str
    data: str | None  # as `fbnetv3.training.load_data` takes it; None: the user has to name it
    recipe: str  # base recipe; the space replaces its searched fields
    constraint: Constraint
    pool: Count  # [n]
    batch: Count  # [m]; how many candidates train between two fits of the predictor
    rounds: Count  # [T]
    # For `rule`, see `stopping`: rank correlation that an early epoch must reach.
    early_stopping: Annotated[float, Field(gt=0.0, le=1.0)]
    # The final training has so many times the epochs, with a slower decay (section 4.1).
    final_stretch: Annotated[int, Field(ge=1, le=1000)]
    predictor: PredictorSettings
    evolution: EvolutionSettings
    # Epochs of a training instead of those of the base recipe; `data`: as many as make about 500 steps (nars/context.py).
    epochs: Count | Literal["data"] | None = None
    # MODULE:FUNCTION that trains candidates instead of this package (nars/custom.py). Without `data` it also makes the final
    # training; with `data`, that is on these images.
    evaluator: Annotated[str, Field(min_length=1)] | None = None
    first: Count | None = None  # size of the first batch, which is random; None: that of the others
    # What stage 2 trains next: the candidates with the highest predicted accuracy, as in section 3.3, or those that are
    # expected to improve most (nars/acquisition.py).
    acquisition: Literal["expected_improvement", "mean"] = "expected_improvement"
    # Whether the candidates for `expected_improvement` are also what an evolution finds outside the pool.
    beyond_pool: bool = True
    # How trainings after the first batch end early: all at the epoch from which on the first batch ranks as at its end, as in
    # section 3.3 (nars/early_stopping.py), or each when a model of learning curves finds it hopeless (nars/hopeless.py).
    stopping: Literal["rule", "model"] = "rule"
    # For `model`: a training ends if it becomes one of the best three with a smaller probability.
    hopeless: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    # Number of trainings of stage 2 that run at a time; when one ends, the next candidate is proposed (nars/asynchronous.py).
    # 0: rounds, where all trainings of a batch end before the next batch is proposed.
    asynchronous: Annotated[int, Field(ge=0)] = 0
    also: tuple[Constraint, ...] = ()  # more constraints that every candidate satisfies
    latency: LatencyLimit | None = None  # and a latency, from a look-up table
    finalists: Annotated[int, Field(ge=0)] = 5  # candidates trained before the answer is chosen; the paper has 0
    # Numbers of trainings, finalists among them, that were added after the search had ended (nars/rounds.py).
    extensions: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    # Candidates of the first batch that are trained again with another seed: how far rankings can agree at all (Figure 5).
    repeats: Annotated[int, Field(ge=0)] = 0
    # Classes of the data, where it has only some of the space's (section 4). Costs are counted for all classes of the space.
    classes: Count | None = None
    final_training: bool = True  # train the answer on the same data, and measure its test accuracy
    # Seeds of the final training in all, where there is one. With more than one, the answers and the network of the answer with
    # the base recipe are trained with each, which says how sure the accuracies and their differences are (runs/confirm.py).
    confirm: Count = 1
    device: str = AUTO  # of trainings; `auto` and None are chosen by what is there when the search begins
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    readers: Annotated[int, Field(ge=0)] | None = None  # processes that read image files, for every training
    processes: Count = 1  # processes that train one candidate together, by torchrun
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    # Earlier searches from whose trainings the predictor starts: their folders, or the copies in the folder of a search.
    warm_start: Texts = ()
    baseline: bool = False  # also run random search with as many trainings
    contents: Contents | None = None  # of a search that has begun

    @property
    def trainings(self) -> int:
        """Number of trainings of a search, without the final training."""
        return sum(self.batches) + self.repeats + self.finalists + sum(self.extensions)

    @property
    def confirms(self) -> bool:
        """Whether the search makes its final training with more than one seed."""
        return self.final_training and self.confirm > 1

    @property
    def batches(self) -> tuple[int, ...]:
        """Number of trainings of every round of stage 2, without extensions."""
        return (self.first or self.batch, *[self.batch] * (self.rounds - 1))

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain data."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> SearchConfig:
        """Return a copy with other values, which are checked like those of a new configuration."""
        return read_config(self.to_dict() | changes, "search config")

    @property
    def fingerprint(self) -> str:
        """Hash of every setting that the result of the search depends on."""
        settings = {key: value for key, value in self.to_dict().items() if key not in WITHOUT_EFFECT}
        # Versions before `auto` had these defaults, and on the CPU it means them. A search that has begun has no `auto`.
        chosen = {"device": "cpu", "precision": "fp32"}
        settings |= {key: value for key, value in chosen.items() if settings[key] == AUTO}
        # Versions before these settings knew only these values.
        earlier = {
            "epochs": None,
            "evaluator": None,
            "first": None,
            "acquisition": "mean",
            "beyond_pool": True,
            "stopping": "rule",
            "hopeless": 0.05,
            "asynchronous": 0,
        }
        settings = {key: value for key, value in settings.items() if key not in earlier or value != earlier[key]}
        contents = settings.pop("contents")
        if contents is not None:
            # What the files hold counts, and not where they are: the folder of a search can be moved.
            table = settings["latency"] and settings["latency"] | {"table": contents.pop("latency")}
            settings |= contents | {"latency": table}
        if not settings["warm_start"]:  # versions before this one had none
            del settings["warm_start"]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_config(data: Any, where: str) -> SearchConfig:
    """Read a configuration strictly. Errors name `where`, key and value."""
    if isinstance(data, Mapping):
        data = {str(key): value for key, value in data.items()}
        for key, presets in (("evolution", EVOLUTIONS), ("predictor", PREDICTORS)):
            if isinstance(data.get(key), str):
                data[key] = _preset(presets, data[key], f"{where}: {key}")
        if "contents" in data:
            data = {"acquisition": "mean"} | data  # the configuration of a search that an earlier version began
        if isinstance(data.get("also"), list | tuple):
            data["also"] = tuple(read(Constraint, row, f"{where}: also[{i}]") for i, row in enumerate(data["also"]))
    nested = {"constraint": Constraint, "predictor": PredictorSettings, "evolution": EvolutionSettings}
    if isinstance(data, Mapping) and data.get("latency") is not None:
        nested["latency"] = LatencyLimit
    if isinstance(data, Mapping) and data.get("contents") is not None:
        nested["contents"] = Contents
    config = read(SearchConfig, data, where, **nested)
    if config.schema != SCHEMA:
        raise InputError(f"{where}: schema is {config.schema}; this version reads {SCHEMA}")
    if sum(config.batches) > config.pool:
        raise InputError(f"{where}: a pool of {config.pool} is too small for {config.rounds} batches of {config.batch}")
    if config.extensions and config.trainings > config.pool:
        raise InputError(
            f"{where}: a pool of {config.pool} is too small for {config.trainings} trainings, those of extensions among them; "
            "extend the search by fewer"
        )
    if config.warm_start and config.predictor.head == "network":
        raise InputError(
            f"{where}: a predictor whose head is a network (the paper's) cannot start from earlier searches; take the default "
            "predictor, or start from none"
        )
    if config.stopping == "model" and config.predictor.head == "network":
        raise InputError(
            f"{where}: stopping is model, but a predictor whose head is a network (the paper's) cannot learn from trainings "
            "that were stopped; take the default predictor, or stopping: rule"
        )
    if config.asynchronous:
        _check_asynchronous(config, where)
    if config.repeats > config.batches[0]:
        raise InputError(f"{where}: repeats is {config.repeats}; at most the {config.batches[0]} of the first batch")
    return config


def _check_asynchronous(config: SearchConfig, where: str) -> None:
    if config.extensions:
        raise InputError(
            f"{where}: asynchronous is {config.asynchronous}, and only a search in rounds can be extended; start another "
            "search from this one with `fbnetv3 search run --from DIR`"
        )
    if config.acquisition == "mean":
        raise InputError(
            f"{where}: asynchronous is {config.asynchronous} and acquisition is mean, the rule of Algorithm 1, which proposes "
            "batches and does not know what is training; take acquisition: expected_improvement, or asynchronous: 0"
        )
    if config.asynchronous > (later := sum(config.batches[1:])):
        raise InputError(
            f"{where}: asynchronous is {config.asynchronous}, but stage 2 has {later} trainings after the first batch; "
            f"allowed: 0 to {later}"
        )


def _preset(presets: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in presets:
        raise InputError(f"{where} is {name!r}; give one of {', '.join(presets)}, or settings")
    return presets[name]


def list_presets() -> list[str]:
    """Return the names of the presets in the package."""
    return list_yaml(PRESETS)


def load_preset(name: str) -> SearchConfig:
    """Read a preset of the package by name, or a custom one by the path of its YAML file.

    Paths in a file are relative to its folder. If nothing is there, they are relative to the working folder. The `config.yaml`
    of a search is a preset too.

    Raises:
        InputError: no such preset, or a file with an unknown key, a missing key or a wrong value.
    """
    path = find_yaml(name, PRESETS, "preset")
    config = read_config(load_yaml(path, "preset"), str(path))
    latency = config.latency and dataclasses.replace(config.latency, table=beside(path, config.latency.table))
    return dataclasses.replace(
        config,
        space=beside(path, config.space),
        recipe=beside(path, config.recipe),
        latency=latency,
        data=config.data and absolute_spec(config.data, path.parent),
        warm_start=tuple(_nearest(path, name) for name in config.warm_start),
        contents=None,  # this will be another search
        extensions=(),
    )


def beside(preset: Path, name: str) -> str:
    """Return the absolute path of a file that a preset names: below the preset's folder or, if nothing is there, here.

    A name of the package stays as it is.
    """
    return _nearest(preset, name) if name.endswith(SUFFIXES) else name


def _nearest(preset: Path, name: str) -> str:
    near, here = preset.parent / name, Path(name)
    return os.path.abspath(here if here.exists() and not near.exists() else near)  # noqa: PTH100  (links stay links)


def save_config(config: SearchConfig, path: Path) -> None:
    """Write the configuration of a run."""
    write_atomically(path, dump_yaml(config.to_dict()))
