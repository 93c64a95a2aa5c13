"""What two trainings differ in, and nothing else."""

import dataclasses

import numpy as np
import pytest

from fbnetv3.errors import InputError
from fbnetv3.search.runs.difference import Difference, Row, Side, answer_of, compare, side_of
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.space.reader import load_space
from tests.search.made_up import diverged, make_config, make_result, make_trials, write_search

SPACE, CONFIG = load_space("micro"), make_config()
NAMES = [c.name for c in SPACE.coordinates]


@pytest.fixture
def search(tmp_path):
    """A search whose trials 1.1 and 1.0 differ in the kernel of a row and in mixup; 1.2 diverged and 1.3 was stopped."""
    trials = make_trials(CONFIG, SPACE, 2)
    row = list(trials[0].candidate)
    for name in ("row0.k", "mixup"):
        row[NAMES.index(name)] = (row[NAMES.index(name)] + 1) % SPACE.sizes[NAMES.index(name)]
    costs = SPACE.cost(np.array([row]))
    trials[1] = dataclasses.replace(
        trials[1], candidate=[int(i) for i in row], flops=int(costs.flops()[0]), params=int(costs.params()[0])
    )
    trials[2], trials[3] = diverged(trials[2]), dataclasses.replace(trials[3], acc1=[50.0], stopped=True)
    write_search(tmp_path, CONFIG, [make_result(CONFIG, SPACE, trials)])
    return load_search(tmp_path)


def test_equal_values_are_counted_and_results_are_all_shown():
    a = Side("a", {"FLOPs": 5, "seconds": 1.0}, {"k": 3, "c": 8}, {"lr": 0.1, "mixup": 0.0})
    b = Side("b", {"FLOPs": 5, "test accuracy": 80.0}, {"k": 5, "c": 8}, {"lr": 0.1, "ema": True})
    assert compare(a, b) == Difference(
        "a",
        "b",
        (
            Row("result", "FLOPs", 5, 5),
            Row("result", "seconds", 1.0, None),
            Row("result", "test accuracy", None, 80.0),
            Row("architecture", "k", 3, 5),
            Row("recipe", "mixup", 0.0, None),
            Row("recipe", "ema", None, True),
        ),
        2,
    )


def test_two_trials_differ_in_what_was_changed(search):
    found = compare(side_of(search, "1.0"), side_of(search, "1.1"))
    changed = {row.what: (row.a, row.b) for row in found.rows if row.kind != "result"}
    assert set(changed) == {"row0.k", "mixup"}
    values = [SPACE.values(t.candidate) for t in search.trials()[:2]]
    assert changed == {name: (values[0][name], values[1][name]) for name in changed}
    assert (found.a, found.b) == ("trial 1.0", "trial 1.1")


def test_results_say_how_a_trial_ended(search):
    assert side_of(search, "1.0").results["val accuracy"] == 90.0
    assert side_of(search, "1.2").results["status"] == "diverged"
    assert "val accuracy" not in side_of(search, "1.2").results
    assert side_of(search, "1.3").results["status"] == "stopped early"
    assert side_of(search, "1.3").results["epochs"] == 1
    assert side_of(search, "2.1").results["predicted"] == 61.0


def test_the_answer_is_its_candidate_with_the_results_of_the_final_training(search):
    answer, trial = answer_of(search), side_of(search, "2.4")
    assert (answer.arch, answer.recipe) == (trial.arch, trial.recipe)
    assert answer.results["test accuracy"] == 81.25
    assert answer.results["epochs"] == 6
    assert side_of(search, "answer") == answer


def test_a_base_recipe_counts_too(search, tmp_path):
    config = CONFIG.replace(recipe="cifar10/minutes")
    write_search(tmp_path / "other", config, [make_result(config, SPACE, list(search.trials()))])
    found = compare(answer_of(search), answer_of(load_search(tmp_path / "other"), "other"))
    assert "batch_size" in {row.what for row in found.rows if row.kind == "recipe"}
    assert not [row for row in found.rows if row.kind == "architecture"]


@pytest.mark.parametrize("name", ["7.0", "0.0", "best", "1", "1.-1", "1.0x", "9999999999.0"])
def test_a_trial_that_is_not_there_is_named(search, name):
    with pytest.raises(InputError, match=r"no trial"):
        side_of(search, name)
