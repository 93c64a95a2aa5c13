"""Trials for other programs: what was measured, by name, and nothing half-written."""

import csv
import json
import sys

import pytest

from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.report.export import export_trials
from fbnetv3.search.runs.folder import CONFIG, SearchFolder
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger
from tests.search.made_up import diverged, failed, make_config, make_trials


@pytest.fixture
def searched(tmp_path):
    """A folder with a ledger of two rounds, out of order, in which one training diverged and one failed."""
    config, space = make_config(), load_space("micro")
    trials = make_trials(config, space, 2)
    trials[1], trials[6] = diverged(trials[1]), failed(trials[6], "OSError: gone")
    save_config(config, tmp_path / CONFIG)
    with Ledger.open(SearchFolder(tmp_path, config).ledger(), config.fingerprint) as ledger:
        for trial in reversed(trials):
            ledger.append(trial)
    return tmp_path, space, trials


def test_csv_is_a_table(searched):
    folder, space, trials = searched
    assert export_trials(folder, "csv", folder / "trials.csv") == 9  # without the failed one
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first, lost, guided = rows[0], rows[1], rows[5]
    names = [("arch." if c.arch else "recipe.") + c.name for c in space.coordinates]
    assert list(first)[: len(names)] == names
    values = [str(c.values[i]) for c, i in zip(space.coordinates, trials[0].candidate, strict=True)]
    assert [first[name] for name in names] == values
    assert (first["label.flops"], first["label.params"]) == (str(trials[0].flops), str(trials[0].params))
    assert [first[f"acc1.{k}"] for k in (1, 2, 3)] == ["50.0", "61.0", "90.0"]
    assert [lost[f"acc1.{k}"] for k in (1, 2, 3)] == ["", "", ""]
    assert [guided[f"acc1.{k}"] for k in (1, 2, 3)] == ["50.0", "61.0", ""]  # stopped after two epochs
    assert (lost["note.status"], first["note.predicted"], guided["note.predicted"]) == ("diverged", "", "60.0")
    assert [(row["note.round"], row["note.index"]) for row in rows[4:7]] == [("1", "4"), ("2", "0"), ("2", "2")]


def test_json_has_everything(searched):
    folder, space, trials = searched
    assert export_trials(folder, "json", folder / "trials.json") == 10
    rows = json.loads((folder / "trials.json").read_text())
    assert [row["status"] for row in rows] == [t.status for t in trials]
    assert rows[6]["error"] == "OSError: gone"
    assert rows[5]["predicted"] == {"mean": 60.0, "std": trials[5].predicted[1]}
    assert rows[0]["predicted"] is None
    assert rows[0]["acc1"] == [50.0, 61.0, 90.0]
    assert rows[0]["arch"].keys() | rows[0]["recipe"].keys() == {c.name for c in space.coordinates}


def test_tensorboard_reads_the_events(searched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, _ = searched
    assert export_trials(folder, "tensorboard", folder / "events") == 10
    events = EventAccumulator(str(folder / "events")).Reload()
    read = {
        name: [(e.step, e.value) for e in events.Scalars(f"trials/{name}")]
        for name in ("accuracy", "best", "predicted")
    }
    # After two epochs; 1 diverged, 6 failed.
    assert read["accuracy"] == [(0, 61), (2, 64), (3, 63), (4, 65), (5, 61), (7, 64), (8, 63), (9, 65)]
    assert read["best"] == list(enumerate([61, 61, 64, 64, 65, 65, 65, 65, 65, 65]))
    assert read["predicted"] == list(zip(range(5, 10), (60, 61, 62, 63, 64), strict=True))
    assert len(list((folder / "events").glob("round*/events*"))) == 8  # HPARAMS: those that ended well
    with pytest.raises(InputError, match="exists already; give a new folder"):
        export_trials(folder, "tensorboard", folder / "events")
    assert not list(folder.glob(".*"))


def test_what_cannot_be_exported_is_one_clear_line(searched, tmp_path_factory, monkeypatch):
    folder, _, _ = searched
    with pytest.raises(InputError, match="no search in"):
        export_trials(tmp_path_factory.mktemp("empty"), "csv", folder / "x.csv")
    with pytest.raises(InputError, match="cannot read the ledger"):
        export_trials(folder, "csv", folder / "x.csv", "random")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        export_trials(folder, "tensorboard", folder / "events")
    assert not (folder / "x.csv").exists()
    assert not (folder / "events").exists()
