"""Searches of one part of a pair, and of both parts one after the other."""

import json

import numpy as np
import pytest

from fbnetv3.benchmarks.search.comparison.methods import METHODS
from fbnetv3.benchmarks.search.comparison.run import make_context, run_one
from fbnetv3.benchmarks.search.comparison.search import Place, find
from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.trial import read_ledger

ONE = ExecutorSettings(workers=1)
A, C = [0, 1], [2]  # the columns of the architecture and of the recipe in the table of 5 x 5 x 5


@pytest.fixture(scope="module")
def found(table, small, tmp_path_factory):
    """Return what a method finds in 16 trainings, and its folder."""

    def search(name, folder=None):
        folder = folder or tmp_path_factory.mktemp(name)
        context, evaluator, _ = make_context(small(table)["trainings_16"], "")
        with ONE.start(evaluator) as executor:
            return find(METHODS[name], context, Place(folder, executor, silent)), folder

    return search


def rows(found, columns):
    return np.unique(np.array([trial.candidate for trial in found.trials])[:, columns], axis=0).tolist()


@pytest.mark.parametrize("searcher", ["", "_random"])
def test_the_other_part_stays_that_of_the_start(found, searcher):
    architecture, folder = found(f"architecture_only{searcher}")
    start = json.loads((folder / "start" / "ledger.jsonl").read_text().splitlines()[1])
    assert len(architecture.trials) == 16
    assert len(rows(architecture, C)) == 1
    assert len(rows(architecture, A)) > 10
    recipe, _ = found(f"recipe_only{searcher}")
    # Five recipes are fewer than 16 trainings: all of them are trained.
    assert rows(recipe, C) == [[0], [1], [2], [3], [4]]
    assert len(rows(recipe, A)) == 1
    assert start["round"] == 1


def test_repeats_follow_the_first_batch(table, small, tmp_path):
    context, evaluator, _ = make_context(small(table)["trainings_16"].replace(repeats=2), "")
    with ONE.start(evaluator) as executor:
        trials = find(METHODS["nars"], context, Place(tmp_path, executor, silent)).trials
    assert [t.round for t in trials] == [1] * 8 + [0] * 2 + [2] * 4 + [3] * 4


def test_the_start_is_in_the_better_half_of_the_first_batch_of_nars(found):
    recipe, _ = found("recipe_only")
    ordered = sorted(recipe.before, key=lambda trial: -trial.acc1[-1])
    better = [trial.candidate for trial in ordered[: len(ordered) // 2]]
    [architecture] = rows(recipe, A)
    assert architecture in [row[:2] for row in better]
    nars, _ = found("nars")
    assert [t.candidate for t in nars.trials if t.round == 1] == [t.candidate for t in recipe.before]


@pytest.mark.parametrize("searcher", ["", "_random"])
def test_the_second_part_starts_from_the_answer_of_the_first(found, searcher):
    both, folder = found(f"recipe_then_architecture{searcher}")
    first, second = both.trials[:5], both.trials[5:]
    # The recipes need 5 of their 8 trainings, and the architectures get the other 11.
    assert len(second) == 11
    best = max(first, key=lambda trial: trial.acc1[-1])
    assert {trial.candidate[2] for trial in second} == {best.candidate[2]}
    measured = {tuple(trial.candidate): trial.acc1[-1] for trial in both.trials}
    assert measured[both.proposal.candidate] >= best.acc1[-1]
    # A ledger has the index rows of its own part.
    assert all(trial.candidate[2] == 0 for trial in read_ledger(folder / "architecture" / "ledger.jsonl"))


def test_a_stopped_search_of_parts_ends_the_same(found):
    whole, folder = found("architecture_then_recipe")
    path = folder / "architecture" / "ledger.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    (folder / "recipe" / "ledger.jsonl").unlink()
    again, _ = found("architecture_then_recipe", folder)
    assert (again.proposal, again.trials, again.before) == (whole.proposal, whole.trials, whole.before)


def test_the_curve_of_a_part_that_is_trained_completely_goes_on(table, small, tmp_path):
    answer = run_one(METHODS["recipe_only_random"], small(table)["trainings_16"], "", tmp_path, ONE, silent)
    assert answer["trainings"] == 5
    assert len(answer["curve"]) == 16
    assert answer["curve"][4:] == answer["curve"][-1:] * 12
    assert answer["curve"][-1] == pytest.approx(answer["acc1"], abs=1e-4)


def test_the_time_of_proposals_is_measured_without_the_trainings(found):
    random, _ = found("random")
    assert len(random.seconds) == 2  # before its only batch, and the choice of the answer
    nars, _ = found("nars")
    assert len(nars.seconds) == 1 + len({trial.round for trial in nars.trials})
    assert all(seconds >= 0 for seconds in nars.seconds)
