"""Trials for other programs: what was measured, by name, and nothing half-written."""

import csv
import dataclasses
import json
import math
import shutil
import sys

import pytest

from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.nars.context import trial_seed
from fbnetv3.search.report.export import coordinates, export_trials
from fbnetv3.search.runs.folder import SearchFolder
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger
from tests.search.made_up import diverged, failed, make_config, make_trials
from tests.search.scripted import FOREIGN, change_first


@pytest.fixture(scope="module")
def trials(space):
    """Two rounds in their order, in which one training diverged and one failed."""
    trials = make_trials(make_config(), space, 2)
    trials[1], trials[6] = diverged(trials[1]), failed(trials[6], "OSError: gone")
    return trials


@pytest.fixture(scope="module")
def searched(trials, tmp_path_factory):
    """The folder of a search that has not ended. Its ledger is out of order."""
    folder, config = tmp_path_factory.mktemp("searched"), make_config()
    save_config(config, folder / "config.yaml")
    with Ledger.open(SearchFolder(folder, config).ledger(), config.fingerprint) as ledger:
        for trial in reversed(trials):
            ledger.append(trial)
    return folder


@pytest.fixture
def table(searched, tmp_path):
    """The lines of the exported table."""
    assert export_trials(searched, "csv", tmp_path / "trials.csv") == 9  # without the failed one
    with (tmp_path / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def accuracies(row):
    return [row[f"acc1.{k}"] for k in (1, 2, 3)]


def test_a_line_has_the_values_of_a_candidate_as_built(table, trials, space):
    names = [("arch." if c.arch else "recipe.") + c.name for c in space.coordinates]
    assert list(table[0])[: len(names)] == names
    values = [str(c.values[i]) for c, i in zip(space.coordinates, trials[0].candidate, strict=True)]
    assert [table[0][name] for name in names] == values


def test_a_line_has_the_costs_and_the_accuracy_after_every_epoch(table, trials):
    assert (table[0]["label.flops"], table[0]["label.params"]) == (str(trials[0].flops), str(trials[0].params))
    assert accuracies(table[0]) == ["50.0", "61.0", "90.0"]
    assert accuracies(table[5]) == ["50.0", "61.0", ""]  # stopped after two epochs


def test_a_line_of_a_diverged_training_has_no_accuracy(table):
    assert accuracies(table[1]) == ["", "", ""]
    assert table[1]["note.status"] == "diverged"


def test_notes_have_what_a_table_does_not_know(table):
    assert (table[0]["note.predicted"], table[5]["note.predicted"]) == ("", "60.0")
    assert [(row["note.round"], row["note.index"]) for row in table[4:7]] == [("1", "4"), ("2", "0"), ("2", "2")]


def test_an_exported_table_is_a_search_space(searched, tmp_path):
    export_trials(searched, "csv", tmp_path / "trials.csv")
    space = load_space(str(tmp_path / "trials.csv"))
    # The diverged training counts as chance, one of 1000 classes. The failed one, 60%, is not there.
    expected = [0.1, 61.0, 63.0, 64.0, 65.0, 90.0, 92.0, 93.0, 94.0]
    assert sorted(space.accuracy(space.table)) == pytest.approx(expected)


def test_json_has_everything(searched, trials, space, tmp_path):
    assert export_trials(searched, "json", tmp_path / "trials.json") == 10
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [row["status"] for row in rows] == [t.status for t in trials]
    assert rows[6]["error"] == "OSError: gone"
    assert rows[5]["predicted"] == {"mean": 60.0, "std": trials[5].predicted[1]}
    assert rows[0]["predicted"] is None
    assert rows[0]["acc1"] == [50.0, 61.0, 90.0]
    assert rows[0]["arch"].keys() | rows[0]["recipe"].keys() == {c.name for c in space.coordinates}


def test_coordinates_are_those_of_the_architecture_and_of_the_recipe(trials, space):
    arch, recipe = coordinates(space, trials[0])
    assert list(recipe) == ["lr", "optimizer", "ema", "dropout", "stochastic_depth", "mixup", "weight_decay"]
    assert arch | recipe == space.values(trials[0].candidate)


@pytest.fixture(scope="module")
def events(searched, tmp_path_factory):
    """The folder of TensorBoard's files."""
    folder = tmp_path_factory.mktemp("events") / "events"
    assert export_trials(searched, "tensorboard", folder) == 10
    return folder


def test_tensorboard_reads_the_accuracies(events):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(events)).Reload()
    read = {
        name: [(e.step, e.value) for e in found.Scalars(f"trials/{name}")] for name in ("accuracy", "best", "predicted")
    }
    # After two epochs; 1 diverged, 6 failed.
    assert read["accuracy"] == [(0, 61), (2, 64), (3, 63), (4, 65), (5, 61), (7, 64), (8, 63), (9, 65)]
    assert read["best"] == list(enumerate([61, 61, 64, 64, 65, 65, 65, 65, 65, 65]))
    assert read["predicted"] == list(zip(range(5, 10), (60, 61, 62, 63, 64), strict=True))


def test_tensorboard_has_the_coordinates_of_every_measured_training(events):
    assert len(list(events.glob("round*/events*"))) == 8


def test_a_used_folder_is_not_overwritten_by_tensorboard(searched, events):
    with pytest.raises(InputError, match="exists already; give a new folder"):
        export_trials(searched, "tensorboard", events)


def test_no_temporary_files_are_left(events):
    assert [path.name for path in events.parent.iterdir()] == ["events"]


def test_an_empty_folder_may_be_used_by_tensorboard(searched, tmp_path):
    (tmp_path / "events").mkdir()
    assert export_trials(searched, "tensorboard", tmp_path / "events") == 10
    assert list((tmp_path / "events").glob("events*"))


def test_the_trials_of_the_baseline_can_be_exported(searched, trials, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    search = SearchFolder(tmp_path / "run", make_config())
    with Ledger.open(search.ledger("random"), search.config.fingerprint) as ledger:
        ledger.append(trials[0])
    assert export_trials(tmp_path / "run", "json", tmp_path / "random.json", "random") == 1


@pytest.fixture
def study(searched, tmp_path):
    """What Optuna loads."""
    optuna = pytest.importorskip("optuna")
    assert export_trials(searched, "optuna", tmp_path / "out" / "study.log") == 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["study.log"]
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "out" / "study.log"))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(journal))


def test_optuna_loads_the_search_as_a_study(study, trials, space):
    assert (study.study_name, study.direction.name) == ("micro", "MAXIMIZE")
    assert study.user_attrs["value"] == "validation accuracy in percent after 2 epochs"
    states = [t.state.name for t in study.trials]
    assert [i for i, state in enumerate(states) if state == "FAIL"] == [1, 6]  # diverged, failed
    assert states.count("COMPLETE") == 8
    assert [study.trials[i].value for i in (0, 2, 5)] == [61.0, 64.0, 61.0]
    assert study.best_trial.number == 4
    first = study.trials[0]
    assert first.params == space.values(trials[0].candidate)
    assert first.intermediate_values == {1: 50.0, 2: 61.0, 3: 90.0}
    assert (first.user_attrs["flops"], first.user_attrs["seed"]) == (trials[0].flops, trials[0].seed)
    assert study.trials[6].user_attrs["error"] == "OSError: gone"
    assert study.trials[5].user_attrs["predicted"] == 60.0
    assert "predicted" not in first.user_attrs


def test_optuna_gets_ranges_as_numbers_and_choices_as_choices(study):
    found = study.trials[0].distributions
    assert type(found["optimizer"]).__name__ == "CategoricalDistribution"
    assert type(found["stem.c"]).__name__ in ("IntDistribution", "CategoricalDistribution")
    lr = found["lr"]
    assert (type(lr).__name__, lr.low, lr.high, lr.log) == ("FloatDistribution", 0.0003, 0.03, True)


def test_a_training_that_was_stopped_is_pruned(searched, trials, tmp_path):
    optuna = pytest.importorskip("optuna")
    shutil.copytree(searched, tmp_path / "run")
    stopped = dataclasses.replace(trials[0], round=3, acc1=[50.0], epochs=2, stopped=True, seed=trial_seed(0, 3, 0))
    search = SearchFolder(tmp_path / "run", make_config())
    with Ledger.open(search.ledger(), search.config.fingerprint) as ledger:
        ledger.append(stopped)
    export_trials(tmp_path / "run", "optuna", tmp_path / "study.log")
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    last = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(journal)).trials[-1]
    assert (last.state.name, last.intermediate_values) == ("PRUNED", {1: 50.0})


def test_without_optuna_the_message_says_what_to_install(searched, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'fbnetv3\[compare\]'"):
        export_trials(searched, "optuna", tmp_path / "study.log")
    assert not (tmp_path / "study.log").exists()


def test_a_folder_without_a_search_is_refused(tmp_path):
    with pytest.raises(InputError, match="no search in"):
        export_trials(tmp_path, "csv", tmp_path / "x.csv")


def test_a_method_that_did_not_run_is_refused(searched, tmp_path):
    with pytest.raises(InputError, match="cannot read the ledger"):
        export_trials(searched, "csv", tmp_path / "x.csv", "random")
    assert not (tmp_path / "x.csv").exists()


def test_a_search_without_trials_is_refused(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    header = (searched / "ledger.jsonl").read_text().splitlines(keepends=True)[0]
    (tmp_path / "run" / "ledger.jsonl").write_text(header)
    with pytest.raises(InputError, match=r"ledger\.jsonl holds no trials to export yet; continue the search first"):
        export_trials(tmp_path / "run", "csv", tmp_path / "x.csv")


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(("changes", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_trial_of_another_search_is_refused_with_its_line(searched, tmp_path, kind, changes, words):
    shutil.copytree(searched, tmp_path / "run")
    change_first(tmp_path / "run" / "ledger.jsonl", **{"round": 1, "index": 0} | changes)
    with pytest.raises(InputError, match=rf"ledger\.jsonl: line 2: .*{words}"):
        export_trials(tmp_path / "run", kind, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_wrong_answer_of_an_older_version_is_a_failed_training(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    change_first(tmp_path / "run" / "ledger.jsonl", acc1=[math.nan] * 2)
    assert export_trials(tmp_path / "run", "csv", tmp_path / "x.csv") == 8  # one more has failed
    assert export_trials(tmp_path / "run", "json", tmp_path / "x.json") == 10
    assert "NaN" not in (tmp_path / "x.json").read_text()


def test_without_tensorboard_the_message_says_what_to_install(searched, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        export_trials(searched, "tensorboard", tmp_path / "events")
    assert not (tmp_path / "events").exists()
