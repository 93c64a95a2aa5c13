"""Trackers with the libraries themselves: a training that is killed, and resumed, is logged like any other."""

import importlib.util
import json
import subprocess
import sys

import pytest

from fbnetv3 import InputError
from fbnetv3.tracking import LIBRARIES, open_trackers
from fbnetv3.training.loop import fit
from tests.places import ROOT
from tests.tracking.readers import READERS
from tests.training.examples import DATA, RECIPE, new_model

NEEDED = {"csv": "csv", "tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def train(folder, library, step=0):
    command = [sys.executable, "-m", "tests.tracking.killed_training", str(folder), library, str(step)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plain():
    """The metrics of a training without trackers."""
    return fit(new_model(), RECIPE, DATA, seed=7).metrics


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_training_that_was_killed_is_logged_once_and_ends_with_the_same_bits(tmp_path, library, plain):
    if importlib.util.find_spec(NEEDED[library]) is None:
        pytest.skip(f"{library} is not installed: pip install 'fbnetv3[trackers]'")
    # The checkpoints are after the steps 4, 5 (an epoch), 9 (the fourth of its epoch), 10, 14 and 15: step 10 comes twice.
    assert train(tmp_path, library, step=3).returncode == -9
    assert train(tmp_path, library, step=10).returncode == -9
    last = train(tmp_path, library)
    assert last.returncode == 0, last.stderr
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["raw_acc1"] for row in rows] == [m.raw_acc1 for m in plain]
    assert [row["train_loss"] for row in rows] == [m.train_loss for m in plain]
    read = READERS[library]
    epochs = read(tmp_path / "logs", "epochs")
    assert set(epochs) == set(rows[0]) - {"epoch"}
    for key, pairs in epochs.items():
        assert pairs == [(row["epoch"], pytest.approx(row[key])) for row in rows], key
    steps = read(tmp_path / "logs", "steps")
    assert [number for number, _ in steps["loss"]] == [10]
    assert steps["epoch"] == [(10, 2)]


def test_unknown_names_are_one_line():
    with (
        pytest.raises(InputError, match="called 'tensorbord'; did you mean 'tensorboard'"),
        open_trackers("tensorbord", "x"),
    ):
        pass


@pytest.mark.parametrize("library", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_missing_is_told_with_what_to_install(library, monkeypatch, tmp_path):
    module, packages = LIBRARIES[library]
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"pip install {packages}, or"), open_trackers(library, tmp_path / "logs"):
        pass
    assert not (tmp_path / "logs").exists()


def test_names_may_be_repeated_and_have_spaces(tmp_path):
    with open_trackers(" csv, csv", tmp_path) as trackers:
        assert [tracker.name for tracker in trackers] == ["csv"]
    with open_trackers("", tmp_path) as trackers:
        assert trackers == []


def test_nothing_is_written_before_something_starts(tmp_path):
    with open_trackers("csv,tensorboard", tmp_path / "logs"):
        assert not (tmp_path / "logs").exists()
    assert not (tmp_path / "logs").exists()
