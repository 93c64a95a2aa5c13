"""The trials of a search for other programs: CSV, JSON, TensorBoard's event files, a storage of Optuna.

fbnetv3 search export DIR --format csv --out trials.csv
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.schema import dump_json
from fbnetv3.search.report.analysis import by_round, convergence, measured
from fbnetv3.search.rivals.packages import load_package
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.space.space import Coordinate, SearchSpace
from fbnetv3.search.trial import Trial, evaluated


def export_trials(folder: str | Path, kind: str, out: str | Path, method: str = "nars") -> int:
    """Write the trials of a search, whether it has ended or not, in the order of rounds; return how many.

    - `csv` is a table of trainings (see search/space/table_file.py): coordinates as built, costs in the convention of the
      search, and the accuracy after every epoch. What a table does not know is in columns `note.NAME`. In a table, a line
      without accuracies means that the training diverged. Failed trainings, which say nothing about their candidate, are
      left out.
    - `json` has everything.
    - `tensorboard` is a new folder. A step is a training, with its accuracy, its prediction and the best accuracy so far.
      HPARAMS has all coordinates.

    - `optuna` is a journal file with a study, which `optuna-dashboard FILE` shows.

    Args:
        kind: a key of `FORMATS`.
        out: a file; for `tensorboard` a folder that does not exist or is empty.
        method: whose ledger, `nars` or `random`.

    Raises:
        InputError: no search there, no trials yet, `out` cannot be written, or a package is not installed.
    """
    search = load_search(folder)
    trials = [t for batch in by_round(search.trials(method)).values() for t in batch]
    if kind == "csv":
        trials = evaluated(trials)
    if not trials:
        raise InputError(f"{search.ledger(method)} holds no trials to export yet; continue the search first")
    FORMATS[kind](search.space, trials, Path(out))
    return len(trials)


def coordinates(space: SearchSpace, trial: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of the architecture's and of the recipe's coordinates by name; widths as built."""
    both: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for c, i in zip(space.coordinates, trial.candidate, strict=True):
        both[not c.arch][c.name] = c.values[i]
    return both


def _write_csv(space: SearchSpace, trials: Sequence[Trial], out: Path) -> None:
    longest = max(t.epochs for t in trials)
    text = io.StringIO()
    rows = [_line(space, t, longest) for t in trials]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out, text.getvalue())


def _line(space: SearchSpace, trial: Trial, epochs: int) -> dict[str, Any]:
    arch, recipe = coordinates(space, trial)
    mean, std = trial.predicted or (None, None)
    notes = {
        "round": trial.round,
        "index": trial.index,
        "status": trial.status,
        "split": "val",
        "epochs": trial.epochs,
        "seed": trial.seed,
        "predicted": mean,
        "deviation": std,
        "seconds": trial.seconds,
        "stopped": trial.stopped,
    }
    return (
        {f"arch.{name}": value for name, value in arch.items()}
        | {f"recipe.{name}": value for name, value in recipe.items()}
        | {"label.flops": trial.flops, "label.params": trial.params}
        | {f"acc1.{k}": trial.acc1[k - 1] if k <= len(trial.acc1) else None for k in range(1, epochs + 1)}
        | {f"note.{name}": value for name, value in notes.items()}
    )


def _write_json(space: SearchSpace, trials: Sequence[Trial], out: Path) -> None:
    rows = []
    for t in trials:
        arch, recipe = coordinates(space, t)
        kept = ("round", "index", "status", "error", "seed", "epochs", "flops", "params", "acc1", "seconds", "stopped")
        predicted = None if t.predicted is None else dict(zip(("mean", "std"), t.predicted, strict=True))
        rows.append(
            {"arch": arch, "recipe": recipe, "predicted": predicted, "split": "val"}
            | {name: getattr(t, name) for name in kept}
        )
    write_atomically(out, dump_json(rows) + "\n")


def _write_events(space: SearchSpace, trials: Sequence[Trial], out: Path) -> None:
    """Write event files. They are written next to `out` and then renamed, so that the folder is complete or not there."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard's files need its package: pip install tensorboard") from None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; give a new folder for TensorBoard's files")
    make_folder(out.parent)
    # Accuracies after different numbers of epochs are not comparable, so the shortest measured trial decides.
    epochs = min((len(t.acc1) for t in measured(trials)), default=1)
    best = convergence(trials, epochs).best
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "events"
        with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]
            for step, t in enumerate(trials):
                values = {"accuracy": t.acc1[epochs - 1] if measured([t]) else math.nan, "best": best[step]}
                if t.predicted is not None:
                    values["predicted"] = t.predicted[0]
                for name, value in values.items():
                    if not math.isnan(value):
                        writer.add_scalar(f"trials/{name}", float(value), step)  # type: ignore[no-untyped-call]
                if measured([t]):
                    arch, recipe = coordinates(space, t)
                    metrics = {
                        "hparam/accuracy": t.acc1[epochs - 1],
                        "hparam/flops": t.flops,
                        "hparam/params": t.params,
                    }
                    name = f"round{t.round}_{t.index}"
                    writer.add_hparams(arch | recipe, metrics, run_name=name)  # type: ignore[no-untyped-call]
        os.replace(folder, out)  # noqa: PTH105


def _write_optuna(space: SearchSpace, trials: Sequence[Trial], out: Path) -> None:
    """Write a study: its value is the accuracy, and everything else that is known of a trial is an attribute.

    A trial that was stopped early is pruned there; one that diverged or failed is a failed one.
    """
    optuna = load_package("optuna")
    optuna.logging.set_verbosity(logging.WARNING)
    backend = load_package("optuna.storages.journal").JournalFileBackend
    distributions = {c.name: _distribution(optuna, c) for c in space.coordinates}
    # As for TensorBoard: the shortest measured trial decides after how many epochs all are compared.
    epochs = min((len(t.acc1) for t in measured(trials)), default=1)
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        file = Path(temporary) / "journal"
        storage = optuna.storages.JournalStorage(backend(str(file)))
        study = optuna.create_study(storage=storage, study_name=space.name, direction="maximize")
        study.set_user_attr("value", f"validation accuracy in percent after {epochs} epochs")
        study.add_trials([_optuna_trial(optuna, space, t, epochs, distributions) for t in trials])
        write_atomically(out, file.read_bytes())


def _distribution(optuna: Any, coordinate: Coordinate) -> Any:
    """Return a coordinate as Optuna has it: a range of numbers, so that it can draw an axis, or a choice."""
    kinds = optuna.distributions
    values = list(dict.fromkeys(coordinate.values))
    if not coordinate.ordered:
        return kinds.CategoricalDistribution(values)
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        return kinds.IntDistribution(low, high)
    return kinds.FloatDistribution(float(low), float(high), log=coordinate.log)


def _optuna_trial(optuna: Any, space: SearchSpace, trial: Trial, epochs: int, distributions: Mapping[str, Any]) -> Any:
    states, compared = optuna.trial.TrialState, bool(measured([trial]))
    state = states.COMPLETE if compared else states.PRUNED if trial.status == "ok" else states.FAIL
    predicted = dict(zip(("predicted", "deviation"), trial.predicted or (), strict=False))
    kept = ("round", "index", "status", "error", "seed", "epochs", "flops", "params", "seconds")
    return optuna.trial.create_trial(
        state=state,
        value=trial.acc1[epochs - 1] if compared else None,
        params=space.values(trial.candidate),
        distributions=distributions,
        user_attrs={name: getattr(trial, name) for name in kept} | predicted,
        intermediate_values=dict(enumerate(trial.acc1, 1)),
    )


FORMATS: Mapping[str, Callable[[SearchSpace, Sequence[Trial], Path], None]] = {
    "csv": _write_csv,
    "json": _write_json,
    "tensorboard": _write_events,
    "optuna": _write_optuna,
}
