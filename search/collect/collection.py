"""A collection: real trainings of many pairs, in a folder that can be stopped and continued like a search, made into a table.

```
collection.yaml     the settings: those of a search, with the rounds of design.py
inputs/             the files that they name, as in the folder of a search
environment.json    versions and devices that the numbers depend on
ledger.jsonl        every training, with its accuracies on validation and test images
table.npz           the table of all rounds that have ended
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, write_atomically
from fbnetv3.progress import Report, silent
from fbnetv3.schema import load_yaml
from fbnetv3.search.collect.design import designed, rows_of
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.nars.batches import Batch, BatchRunner, foreign_trial
from fbnetv3.search.nars.config import SearchConfig, read_config, save_config
from fbnetv3.search.nars.context import Context, image_evaluator
from fbnetv3.search.nars.custom import with_evaluator
from fbnetv3.search.runs.devices import announce, choose, record
from fbnetv3.search.runs.final import environment
from fbnetv3.search.runs.folder import CONFIG, ENVIRONMENT, LEDGER
from fbnetv3.search.runs.inputs import check_inputs, locate_inputs
from fbnetv3.search.runs.run import prepare
from fbnetv3.search.space.space import Coordinate
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_archive import write_archive
from fbnetv3.search.trial import Evaluator, Ledger, Trial, in_rounds
from fbnetv3.training.accuracy import final_split

COLLECTION, TABLE = "collection.yaml", "table.npz"
SAID_OTHERWISE = ("data", "contents", "first", "batch", "pool")  # settings of which a message says something better


def collect(
    config: SearchConfig,
    trainings: int,
    out: str | Path,
    *,
    evaluator: Evaluator | None = None,
    executor: ExecutorSettings = THIS_MACHINE,
    progress: Report = silent,
    facts: dict[str, str] | None = None,
) -> TableSpace:
    """Train pairs of a search's space on its data, and write a table of the trainings: `table.npz` in the folder `out`.

    A call with the same arguments continues a collection that was stopped or killed.

    Args:
        config: settings of a search; space, data, recipe, constraints and seed of them count.
        trainings: how many; four tenths are of random pairs, four tenths of neighbours of the best ones, and two tenths are
            second and third trainings.
        evaluator: trains the pairs; by default the one that the settings name, or trainings on their images, also
            measured on the test images, if there are some.
        facts: more of what the table says about itself.

    Raises:
        InputError: the folder has another collection or cannot be written, or the settings cannot be met.
    """
    out = Path(out)
    with lock_folder(out, "collection"):
        evaluator = with_evaluator(config, evaluator)[1]
        config, machine = choose(designed(config, trainings), executor)
        kept, files, context = prepare(config, evaluator)
        if (out / COLLECTION).exists():
            _check_same(kept, out)
        else:
            _check_new(out)
            # What cannot be met must fail before anything is written.
            context.constraints.sample(config.batches[0], config.seed)
            for path, content in files.items():
                write_atomically(out / path, content)
            record(out, environment(), machine, config)
            save_config(kept, out / COLLECTION)
        context = dataclasses.replace(Context.of(locate_inputs(kept, out)), data=context.data)
        evaluator = evaluator or _tested(context)
        announce(config, machine, executor, evaluator)
        foreign = foreign_trial(context.config, context.space, "nars")
        with (
            Ledger.open(out / LEDGER, context.config.fingerprint, foreign) as ledger,
            executor.start(evaluator, config.processes) as running,
        ):
            runner = BatchRunner(context, ledger, running, progress)
            trials: list[Trial] = []
            for round in range(1, config.rounds + 1):
                trials += runner.run(Batch(round, rows_of(context, round, trials), context.base.epochs))
                table = table_of(context, trials, _facts(context, out, trials) | (facts or {}))
                write_archive(table, out / TABLE)
    return table


def _check_new(folder: Path) -> None:
    """Check that nothing in a folder would be replaced by a new collection.

    Raises:
        InputError: it has such a file.
    """
    found = [name for name in (CONFIG, LEDGER, TABLE) if (folder / name).exists()]
    if found:
        raise InputError(f"{folder} has a {found[0]}, but no collection; give another folder")


def _check_same(config: SearchConfig, folder: Path) -> None:
    """Check that the collection in a folder has these settings, and that its inputs are as they were.

    Raises:
        InputError: it has others; the message names them.
    """
    found = read_config(load_yaml(folder / COLLECTION, "collection"), str(folder / COLLECTION))
    check_inputs(found, folder)
    # Of images that were moved the contents tell, and the rounds follow from the number of trainings.
    before, now = (
        {"trainings": one.trainings} | {key: value for key, value in one.to_dict().items() if key not in SAID_OTHERWISE}
        for one in (found, config)
    )
    others = [f"{key} {before[key]} and not {now[key]}" for key in before if before[key] != now[key]]
    if found.contents != config.contents:
        others.append("other images or input files")
    if others:
        raise InputError(f"{folder} has a collection with {'; '.join(others)}; give its settings, or another folder")


def table_of(context: Context, trials: Sequence[Trial], facts: dict[str, str]) -> TableSpace:
    """Return the table of trials. Failed ones say nothing and are left out; those that diverged have no accuracies."""
    rows: dict[tuple[int, ...], list[Trial]] = {}
    for trial in in_rounds(trials):
        if trial.status != "failed":
            rows.setdefault(tuple(trial.candidate), []).append(trial)
    index = np.array(list(rows))
    most, epochs = max(map(len, rows.values())), context.base.epochs
    acc1, test_acc1 = np.full((2, len(index), most, epochs), np.nan)
    seconds, seeds = np.full((len(index), most), np.nan), np.zeros((len(index), most), np.int64)
    for i, trainings in enumerate(rows.values()):
        for j, trial in enumerate(trainings):
            acc1[i, j, : len(trial.acc1)] = trial.acc1
            test_acc1[i, j, : len(trial.test_acc1)] = trial.test_acc1
            seconds[i, j], seeds[i, j] = trial.seconds, trial.seed
    names, statistics = context.space.statistics(index)
    tested = any(trial.test_acc1 for trial in trials)
    return TableSpace(
        name=context.config.name,
        about=facts.get("data", "a collection"),
        in_chans=context.space.in_chans,
        num_classes=context.config.classes or context.space.num_classes,
        coordinates=tuple(map(_as_written, context.space.coordinates)),
        table=index,
        labels={name: statistics[:, k].astype(float) for k, name in enumerate(names)},
        acc1=acc1,
        trainings=np.array([len(trainings) for trainings in rows.values()]),
        held_out=True,
        test_acc1=test_acc1 if tested else None,
        seconds=seconds,
        seeds=seeds,
        facts=facts,
    )


def _as_written(coordinate: Coordinate) -> Coordinate:
    """Return the coordinate as a table has it: with the widths of the space's file, because as built several of them may be
    one, and with words for true and false.
    """
    values = tuple(str(value).lower() if isinstance(value, bool) else value for value in coordinate.nominal)
    return dataclasses.replace(coordinate, values=values, nominal=values)


def _tested(context: Context) -> Evaluator:
    """Return the evaluator that also measures on the test images, if there are some."""
    evaluator = image_evaluator(context)
    images = evaluator.images(max(context.space.resolutions))
    return dataclasses.replace(evaluator, test=final_split(images) == "test")


def _facts(context: Context, folder: Path, trials: Sequence[Trial]) -> dict[str, str]:
    config = context.config
    versions = load_yaml(folder / ENVIRONMENT, "record of versions")  # JSON is YAML
    found = {
        "data": config.data or "an evaluator's own",
        "space": f"{context.space.name}: {context.space.about}",
        "recipe": f"{context.base.epochs} epochs of the base recipe, whose searched values are the pair's",
        "constraint": "; ".join(map(str, (config.constraint, *config.also))),
        "design": f"seed {config.seed}; rounds of {', '.join(map(str, config.batches))} trainings: random pairs, neighbours of "
        "the best, and second and third trainings of the best and of random ones",
        "metric": "accuracy in percent after every epoch, on the validation images that a search sees, and on test images",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
    }
    failed = sum(trial.status == "failed" for trial in trials)
    return found | ({"failed": f"{failed} trainings failed and are left out"} if failed else {})
