"""The folder of a search is read as it was written, and says what is missing or damaged."""

import dataclasses
import json
import shutil

import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.proposal import Finalist
from fbnetv3.search.runs.folder import SearchFolder, accuracies, load_search, write_results
from fbnetv3.search.space.reader import load_space
from tests.search.made_up import make_config, make_result, make_trials, write_search

SPACE = load_space("micro")


@pytest.fixture
def made_up():
    """Configuration and results of a search with a finalist and a baseline."""
    config = make_config()
    trials = make_trials(config, SPACE, 2)
    nars, random = make_result(config, SPACE, trials), make_result(config, SPACE, trials, "random", 80.0)
    finalist = Finalist(nars.proposal.candidate, (70.0, 1.5), 66.0, 71.25)
    return config, [
        dataclasses.replace(nars, proposal=dataclasses.replace(nars.proposal, finalists=(finalist,))),
        random,
    ]


@pytest.fixture
def folder(made_up, tmp_path):
    write_search(tmp_path / "run", *made_up)
    return tmp_path / "run"


def test_a_folder_has_the_configuration_and_the_space(folder, made_up):
    search = load_search(folder)
    assert search.config == made_up[0]
    assert search.space == SPACE


def test_every_method_has_its_files(folder, made_up):
    search = load_search(folder)
    assert search.methods == ["nars", "random"]
    assert search.ledger() == folder / "ledger.jsonl"
    assert search.ledger("random") == folder / "baseline" / "ledger.jsonl"
    assert search.pair() == folder / "pair.yaml"
    assert search.pair("random") == folder / "baseline" / "pair.yaml"
    for result in made_up[1]:
        assert search.trials(result.method) == list(result.trials)


def test_results_are_read_as_they_were_written(folder, made_up):
    assert load_search(folder).results() == made_up[1]


def test_results_of_a_search_are_those_that_it_returned(scripted_search):
    _, folder, results = scripted_search
    assert load_search(folder).results() == results


def test_other_programs_read_what_every_method_found(folder, made_up):
    nars, random = made_up[1]
    found = json.loads((folder / "result.json").read_text())
    assert found["random"] == {
        "test_acc1": 80.0,
        "val_acc1": 82.0,
        "epochs": random.pair.recipe.epochs,
        "flops": random.flops,
        "params": random.params,
        "trainings": 10,
        "training_seconds": 60.0,
        "predicted": None,
        "epochs_of_a_trial": 2,
        "generations": 0,
        "finalists": [],
    }
    assert found["nars"]["predicted"] == [66.6, 0.9]
    assert found["nars"]["generations"] == 3
    assert found["nars"]["finalists"] == [
        {"candidate": list(nars.proposal.candidate), "predicted": [70.0, 1.5], "measured": 66.0, "final": 71.25}
        | {"split": "val", "epochs": 2, "final_epochs": 3}
    ]


def test_without_a_final_training_there_is_no_accuracy(made_up, tmp_path):
    result = made_up[1][0]
    result = dataclasses.replace(result, curve=(), pair=dataclasses.replace(result.pair, measured={}))
    write_results([result], tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())["nars"]
    assert (found["test_acc1"], found["val_acc1"], found["epochs"]) == (None, None, None)


def test_an_accuracy_of_validation_images_is_not_called_one_of_test_images(made_up, tmp_path):
    result = made_up[1][0]
    measured = {"split": "val", "epochs": 6, "acc1": 82.0}
    result = dataclasses.replace(result, pair=dataclasses.replace(result.pair, measured=measured))
    write_results([result], tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())["nars"]
    assert (found["test_acc1"], found["val_acc1"], found["epochs"]) == (None, 82.0, 6)
    assert accuracies(result.pair) == {"test_acc1": None, "val_acc1": 82.0, "epochs": 6}


def test_a_folder_without_a_search_is_refused(tmp_path):
    message = r"no search in .*absent: config.yaml is missing; give the folder of a search, or start one with `fbnetv3"
    with pytest.raises(InputError, match=message):
        load_search(tmp_path / "absent")


def test_a_damaged_configuration_is_refused(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("rounds: 3", "rounds: three"))
    with pytest.raises(InputError, match=r"config.yaml: rounds is 'three'"):
        load_search(folder)


def test_a_method_without_a_ledger_is_not_listed(folder):
    shutil.rmtree(folder / "baseline")
    assert load_search(folder).methods == ["nars"]


def test_the_trials_of_a_method_that_did_not_run_are_refused(folder):
    shutil.rmtree(folder / "baseline")
    with pytest.raises(InputError, match=r"cannot read the ledger .*baseline/ledger\.jsonl"):
        load_search(folder).trials("random")


@pytest.mark.parametrize("name", ["result.json", "diagnostics.json"])
def test_a_search_that_has_not_ended_has_no_results(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"has not ended: {name} is missing; continue it with `fbnetv3 search resume"):
        load_search(folder).results()


@pytest.mark.parametrize("change", [{"nars": {}}, {"nars": None}, {}], ids=["keys", "type", "method"])
def test_damaged_diagnostics_say_how_they_are_written_again(folder, change):
    (folder / "diagnostics.json").write_text(json.dumps(change))
    with pytest.raises(InputError, match=r"diagnostics.json is damaged .*; write it again with `fbnetv3 search resume"):
        load_search(folder).results()


def test_a_file_that_is_no_json_is_refused(folder):
    (folder / "result.json").write_text("{cut")
    with pytest.raises(InputError, match=r"result.json is no result of a search, or is damaged"):
        load_search(folder).results()


def test_a_folder_that_has_not_begun_has_no_methods(tmp_path):
    assert SearchFolder(tmp_path, make_config()).methods == []
