"""Findings say what the trials tell, and nothing where they tell nothing."""

import json

import numpy as np
import pytest

from fbnetv3.search.nars.context import Context
from fbnetv3.search.report import findings
from fbnetv3.search.report.analysis import Coverage
from fbnetv3.search.report.findings import Findings, as_data, find, find_in, interval, shift_words, wanted_words
from fbnetv3.search.report.importance import Importance
from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.report.recipes import recipes_by_size
from fbnetv3.search.report.variance import PARTS, decompose, rank_flips
from fbnetv3.search.runs.folder import load_search
from tests.search.made_up import make_config, make_result, make_trials, write_search
from tests.search.report.known import NAMES, Known
from tests.search.report.test_recipes import preference, wants


@pytest.fixture(scope="module")
def known():
    """Findings of a known accuracy."""
    of = Known(wants, noise=2.0)
    importance = Importance(tuple(NAMES), np.tile(np.linspace(0, 1, len(NAMES)), (2, 1)), np.array([0.5, 0.7]))
    return Findings(importance, decompose(of), rank_flips(of), recipes_by_size(of), Coverage(8, (0.5, 0.75, 1.0)))


def test_an_interval_holds_nine_tenths_of_the_draws():
    assert interval(np.arange(101.0)) == (5, 50, 95)


@pytest.mark.parametrize(
    ("best", "values", "ordered", "words"),
    [
        ([0, 0, 0, 0, 1], (0.05, 0.1, 0.2), True, "0.05 (80%)"),
        ([0, 0, 1, 1], (0.05, 0.1, 0.2), True, "0.05 to 0.1 (100%)"),
        ([0, 2, 2, 0], ("a", "b", "c"), False, "a or c (100%)"),
        ([0, 1, 2], (1, 2, 3), True, "no clear preference"),
        ([0, 0], (True, False), False, "yes (100%)"),
    ],
)
def test_what_is_wanted_in_words(best, values, ordered, words):
    assert wanted_words(preference(*((b, b) for b in best), values=values, ordered=ordered), 0) == words


@pytest.mark.parametrize(
    ("pairs", "ordered", "words"),
    [
        ([(0, 2)] * 4 + [(1, 1)], True, "higher for large networks (80%)"),
        ([(2, 0)] * 5, True, "lower for large networks (100%)"),
        ([(0, 2)] * 3 + [(1, 1)] * 2, True, "no clear difference"),
        ([(2, 0)] * 5, False, "another one for large networks (100%)"),
    ],
)
def test_the_difference_in_words(pairs, ordered, words):
    assert shift_words(preference(*pairs, ordered=ordered)) == words


def test_everything_is_plain_data(known):
    data = as_data(known)
    assert json.loads(json.dumps(data)) == data
    assert [row["part"] for row in data["variance"]] == list(PARTS)
    assert sum(row["median"] for row in data["variance"]) == pytest.approx(1, abs=0.05)
    assert data["variance"][3]["better_median"] is None  # noise
    assert data["noise"]["median"] == pytest.approx(2, abs=0.2)
    assert {row["coordinate"] for row in data["recipes"][:2]} == {"lr", "dropout"}
    assert [row["networks"] for row in data["swapped"]] == ["small", "large"]
    assert data["coordinates"][0] == {"coordinate": NAMES[-1], "importance": 1.0, "std": 0.0}
    assert data["explained"] == pytest.approx(0.6)
    assert data["calibration"][1] == {"interval": 0.8, "inside": 0.75, "trials": 8}


def test_what_is_unknown_is_empty():
    assert as_data(Findings()) == {
        "variance": [],
        "noise": None,
        "flips": [],
        "recipes": [],
        "swapped": [],
        "coordinates": [],
        "explained": None,
        "calibration": [],
    }


def test_few_trials_tell_how_good_predictions_were_and_no_more(space):
    config = make_config()
    found = find(Context.of(config), make_trials(config, space, 3), 2)
    assert (found.importance, found.parts, found.flips, found.recipes) == (None,) * 4
    assert found.calibration.trials == 10


@pytest.mark.parametrize("skill", [0.3, -0.1])
def test_nothing_is_said_about_a_space_that_is_not_explained(space, monkeypatch, skill):
    importance = Importance(tuple(NAMES), np.zeros((1, len(NAMES))), np.array([skill]))
    monkeypatch.setattr(findings, "permutation_importance", lambda *args: importance)
    monkeypatch.setattr(Posterior, "of", lambda *args: Known(wants, noise=2.0))
    config = make_config()
    found = find(Context.of(config), make_trials(config, space, 3), 2)
    assert found.importance is importance
    assert all((part is None) == (skill < 0) for part in (found.parts, found.flips, found.recipes))
    assert bool(as_data(found)["coordinates"]) == (skill > 0)
    assert found.calibration.trials == 10


def test_the_findings_of_a_folder(space, tmp_path):
    config = make_config()
    write_search(tmp_path, config, [make_result(config, space, make_trials(config, space, 3))])
    (tmp_path / "result.json").unlink()  # the search has not ended
    assert find_in(load_search(tmp_path)).calibration.trials == 10
