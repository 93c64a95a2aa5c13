"""A zoo from nothing, by the steps of section 4.2: search, budgets, scaling, a teacher, distillation, publishing.

    fbnetv3 make-zoo --preset micro --out DIR

Every step is a command of this package or leaves a file. The same call continues where it was stopped or killed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.complexity import cost
from fbnetv3.device import AUTO
from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.pair_file import Pair, load_pair, save_pair
from fbnetv3.progress import Report
from fbnetv3.scaling import coefficients
from fbnetv3.schema import STRICT, find_yaml, list_yaml, load_json, load_yaml, read
from fbnetv3.search.execution.cards import Environment
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig, beside, load_preset
from fbnetv3.search.runs.budgets import FOLDER, budget_name, budget_pairs
from fbnetv3.search.runs.folder import CONFIG, SearchFolder, load_search
from fbnetv3.search.runs.resources import Resources
from fbnetv3.search.runs.run import resume, start
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.training.data.packaged import DATA
from fbnetv3.training.data.spec import absolute_spec

SCHEMA = 1
ZOOS = Path(__file__).parent / "zoos"
SEARCH, PAIRS, TRAINED, ZOO, ACCOUNT = "search", "pairs", "trained", "zoo", "zoo.json"
TEACHER = "teacher"
MEASURED = "measured.json"
Flops = tuple[Annotated[float, Field(gt=0.0)], ...]


@dataclass(frozen=True, config=STRICT)
class ZooPlan:
    """A zoo as data: its search, and what is made from the pairs that it finds."""

    schema: int
    name: str  # the networks are called NAME_a, NAME_b, ..., the smallest first
    about: str
    search: str  # preset of the search
    budgets: Flops  # of the searched pairs, in the metric and convention of the search
    smaller: Flops  # FLOPs to which the pair of the smallest budget is scaled down
    larger: Flops  # FLOPs to which the pair of the largest budget is scaled up
    tolerance: Annotated[float, Field(gt=0.0, lt=1.0)]  # scaled networks may miss their FLOPs by this share
    recipe: dict[str, Any]  # values of the networks' training that differ from those of the search
    larger_recipe: dict[str, Any]  # more such values for networks that were scaled up
    distillation: Annotated[float, Field(ge=0.0, lt=1.0)]
    licence: str


def list_zoos() -> list[str]:
    """Return the names of the zoos in the package."""
    return list_yaml(ZOOS)


def load_zoo(name: str) -> ZooPlan:
    """Read a zoo of the package by name, or a custom one by the path of its YAML file.

    The path of a preset is relative to the folder of that file.

    Raises:
        InputError: no such zoo, or a file with an unknown key, a missing key or a wrong value.
    """
    path = find_yaml(name, ZOOS, "zoo")
    data = load_yaml(path, "zoo")
    data |= {key: tuple(data[key]) for key in ("budgets", "smaller", "larger") if isinstance(data.get(key), list)}
    plan = read(ZooPlan, data, str(path))
    if plan.schema != SCHEMA:
        raise InputError(f"{path}: schema is {plan.schema}; this version reads {SCHEMA}")
    if not plan.budgets:
        raise InputError(f"{path}: budgets is empty; give one or more")
    return dataclasses.replace(plan, search=beside(path, plan.search))


def make_zoo(
    plan: ZooPlan,
    out: str | Path,
    data: str | None,
    search_data: str | None,
    seed: int,
    resources: Resources,
    progress: Report,
) -> dict[str, Any]:
    """Make the zoo in a folder, or continue it from where an earlier call stopped.

    Args:
        data: what the networks are trained on; by default the data of the search.
        search_data: what candidates are trained on; by default the data of the search's preset.

    Returns:
        The content of `zoo.json`: the hours of every stage, and one row for each network.

    Raises:
        InputError: the folder holds another zoo, or a step cannot be done. What was done before it is kept.
    """
    out = Path(out)
    with lock_folder(out, "make-zoo"):
        _search(_config(plan, search_data, seed, resources), out / SEARCH, search_data, resources, progress)
        names = _pairs(plan, out, data and absolute_spec(data), progress)
        jobs = [_training(out, TEACHER, names[-1], [], resources)] if plan.distillation else []
        taught = ["--teacher", str(out / TRAINED / TEACHER / "weights.pt")] if plan.distillation else []
        students = [_training(out, name, name, taught, resources) for name in names]
        _train(jobs, resources, progress)
        _train(students, resources, progress)
        for name in names:
            _publish(plan, out, name, progress)
        account = {"hours": hours(out), "networks": _rows(out, names)}
        if plan.distillation:
            account["teacher"] = _measured(out / TRAINED / TEACHER)
        write_atomically(out / ACCOUNT, json.dumps(account, indent=1) + "\n")
        return account


def hours(out: Path) -> dict[str, float]:
    """Return the hours of all trainings together, by stage. Those of the search are what Table 4 calls the search cost.

    A training that was killed and resumed counts from the moment it was resumed.
    """
    trials = sum(trial.seconds for trial in load_search(out / SEARCH).trials())
    trained = {path.parent.name: _measured(path.parent)["seconds"] for path in (out / TRAINED).glob(f"*/{MEASURED}")}
    seconds = {"search": trials, "teacher": trained.pop(TEACHER, 0.0), "networks": sum(trained.values())}
    return {stage: round(value / 3600, 4) for stage, value in seconds.items()}


def _config(plan: ZooPlan, data: str | None, seed: int, resources: Resources) -> SearchConfig:
    """Return the settings of the search, without a final training: the networks of the zoo are trained instead."""
    given = {"data": data, "seed": seed, "device": resources.device, "readers": resources.readers}
    changes = {key: value for key, value in given.items() if value is not None}
    return load_preset(plan.search).replace(**changes, final_training=False, baseline=False)


def _search(config: SearchConfig, folder: Path, data: str | None, resources: Resources, progress: Report) -> None:
    executor = ExecutorSettings(trial_timeout=resources.trial_timeout, trials_per_gpu=resources.trials_per_gpu)
    if not (folder / CONFIG).is_file():
        start(config, folder, progress, executor=executor)
        return
    begun = load_search(folder).config
    if (begun.name, begun.seed) != (config.name, config.seed):
        raise InputError(f"{folder} holds the search {begun.name} with seed {begun.seed}; give another --out")
    # `auto` is the device that the search began with, so that its trainings stay equal.
    resume(
        folder, progress, executor=executor, data=data, device=None if resources.device == AUTO else resources.device
    )


def _pairs(plan: ZooPlan, out: Path, data: str | None, progress: Report) -> list[str]:
    """Write a pair file for each network, and return the names of the networks, the smallest first."""
    search = load_search(out / SEARCH)
    own = search.config.constraint
    files = [
        out / SEARCH / FOLDER / f"{budget_name(Constraint(own.metric, top, 0.0, own.convention))}.yaml"
        for top in sorted(plan.budgets)
    ]
    if not all(path.is_file() for path in files):
        budget_pairs(out / SEARCH, plan.budgets, progress)
    # The best pair within a larger budget may be a smaller network. Of two of one size, the later one scores no lower.
    by_size = {_flops(pair, search): pair for pair in map(load_pair, files)}
    if len(by_size) < len(files):
        progress(0, 1, f"the {len(files)} budgets lead to {len(by_size)} different networks, so the zoo is smaller")
    searched = [by_size[flops] for flops in sorted(by_size)]
    searched = [dataclasses.replace(p, provenance=p.provenance | ({"data": data} if data else {})) for p in searched]
    pairs = [_scaled(plan, searched[0], flops, search) for flops in sorted(plan.smaller)]
    pairs += searched
    pairs += [_scaled(plan, searched[-1], flops, search) for flops in sorted(plan.larger)]
    names = [f"{plan.name}_{chr(ord('a') + i)}" for i in range(len(pairs))]
    for name, pair in zip(names, pairs, strict=True):
        final, path = _final(plan, pair, name), out / PAIRS / f"{name}.yaml"
        if path.is_file() and (out / TRAINED / name / MEASURED).is_file():
            _check_trained(load_pair(path), final, path)
        save_pair(final, path)
    return names


def _check_trained(before: Pair, now: Pair, path: Path) -> None:
    """Refuse a pair that differs from the one that its network was trained from."""
    # Earlier versions wrote the data relative to the working folder.
    was, is_now = ((p.arch, p.recipe, absolute_spec(p.provenance["data"])) for p in (before, now))
    if was != is_now:
        raise InputError(
            f"the zoo's file or --data was changed after {path.stem} had been trained from {path}; restore it, or give another "
            "--out"
        )


def _final(plan: ZooPlan, pair: Pair, name: str) -> Pair:
    """Return a pair with the recipe that it is trained with for the zoo."""
    changes = plan.recipe | (plan.larger_recipe if pair.provenance.get("scaled_up") else {})
    recipe = pair.recipe.replace(**changes, distillation=plan.distillation)
    return dataclasses.replace(pair, arch=dataclasses.replace(pair.arch, name=name), recipe=recipe)


def _scaled(plan: ZooPlan, pair: Pair, flops: float, search: SearchFolder) -> Pair:
    """Return a pair with the same recipe, and with its network scaled to `flops`. No predictor has judged it."""
    config, space = search.config, search.space
    found = coefficients(
        pair.arch,
        flops,
        convention=config.constraint.convention,
        tolerance=plan.tolerance,
        num_classes=space.num_classes,
        in_chans=space.in_chans,
        keep_resolution=pair.provenance["data"] in DATA,
    )[0]
    note = {"depth": found.depth, "width": found.width, "resolution": found.resolution}
    up = found.flops > _flops(pair, search)
    provenance = pair.provenance | {"scaled_from": pair.arch.name, "scaled_by": note, "scaled_up": up}
    return dataclasses.replace(pair, arch=found.arch, predicted={}, measured={}, provenance=provenance)


def _flops(pair: Pair, search: SearchFolder) -> float:
    """Return the FLOPs of a pair's network in the convention of the search."""
    classes, channels = search.space.num_classes, search.space.in_chans
    return float(cost(pair.arch, classes, channels).flops(search.config.constraint.convention))


@dataclass(frozen=True)
class _Training:
    name: str
    command: list[str]
    folder: Path


def _training(out: Path, name: str, pair: str, more: Sequence[str], resources: Resources) -> _Training:
    """Return the `fbnetv3 train` command of a pair. Without `more`, it trains without a teacher."""
    folder = out / TRAINED / name
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(resources.processes)]
    command = [sys.executable, *(launcher if resources.processes > 1 else []), "-m", "fbnetv3", "train", "--json"]
    command += ["--pair", str(out / PAIRS / f"{pair}.yaml"), "--out", str(folder), "--resume"]
    command += resources.train_options
    command += more or ["--set", "distillation=0"]
    return _Training(name, command, folder)


def _train(jobs: Sequence[_Training], resources: Resources, progress: Report) -> None:
    """Run the trainings that are not done yet, several at the same time, each in a place of its own."""
    places: SimpleQueue[Environment] = SimpleQueue()
    for place in resources.places:
        places.put(place)

    def run(job: _Training) -> None:
        place = places.get()
        try:
            _run(job, place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(places.qsize()) as pool:
        for i, job in enumerate(jobs):
            progress(i, len(jobs), f"training {job.name}")
        for _ in pool.map(run, [job for job in jobs if not (job.folder / MEASURED).is_file()]):
            done = sum((job.folder / MEASURED).is_file() for job in jobs)
            progress(done, len(jobs), f"trained {done} of {len(jobs)} networks")


def _run(job: _Training, place: Environment) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "lock").open("w") as lock:
        # The command inherits the lock. If it outlives a killed driver, the next driver waits for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        row = _command(job.command, f"training {job.name}", lock.fileno(), place)
    seconds = round(time.monotonic() - began, 1)
    write_atomically(job.folder / MEASURED, json.dumps(row | {"seconds": seconds}) + "\n")


def _publish(plan: ZooPlan, out: Path, name: str, progress: Report) -> None:
    """Publish a network: its weights as a file, a row of the registry and a card of the zoo."""
    if name in {row["model"] for row in _registry(out)}:
        return
    progress(0, 1, f"publishing {name}")
    about = f"{name}: made with `fbnetv3 make-zoo`; {_made(load_pair(out / PAIRS / f'{name}.yaml'))}."
    command = [
        sys.executable,
        "-m",
        "fbnetv3",
        "weights",
        "publish",
        str(out / TRAINED / name / "weights.pt"),
        "--json",
    ]
    command += ["--zoo", str(out / ZOO), "--name", name, "--licence", plan.licence, "--about", about]
    _command([*command, "--pair", str(out / PAIRS / f"{name}.yaml")], f"publishing {name}")


def _command(
    command: list[str], what: str, lock: int | None = None, place: Environment | None = None
) -> dict[str, Any]:
    """Run a command of this package that prints one row as JSON, and return the row."""
    kept = () if lock is None else (lock,)
    done = subprocess.run(command, capture_output=True, text=True, pass_fds=kept, env=os.environ | dict(place or {}))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{what} failed: {last}; fix the cause, and call again. The command was: {' '.join(command)}")
    row: dict[str, Any] = json.loads(done.stdout[done.stdout.index("[") :])[0]
    return row


def _measured(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = load_json(folder / MEASURED, "result of a training")
    return row


def _registry(out: Path) -> list[dict[str, Any]]:
    path = out / ZOO / "registry.json"
    rows: list[dict[str, Any]] = load_json(path, "registry", ("weights",))["weights"] if path.is_file() else []
    return rows


def _made(pair: Pair) -> str:
    if "scaled_from" in pair.provenance:
        by = ", ".join(f"{key} {value:g}" for key, value in pair.provenance["scaled_by"].items())
        return f"{pair.provenance['scaled_from']} scaled by {by}"
    limit = pair.constraint
    return f"searched for at most {limit['max']:,.0f} {limit['metric']}"


def _rows(out: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each network: costs in the published convention, accuracy as measured when it was published."""
    found = {row["model"]: row for row in _registry(out)}
    pairs = {name: load_pair(out / PAIRS / f"{name}.yaml") for name in names}
    return [
        {
            "model": name,
            "flops": round(found[name]["flops_m"] * 1e6),
            "params": round(found[name]["params_m"] * 1e6),
            "acc1": found[name]["metrics"][0]["value"],
            # Publishing measures on the split that the training was measured on.
            "split": "test" if "test_acc1" in _measured(out / TRAINED / name) else "val",
            "epochs": pairs[name].recipe.epochs,
            "made": _made(pairs[name]),
        }
        for name in names
    ]
