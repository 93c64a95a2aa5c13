"""How sure an answer is: intervals by hand, the same seeds for all answers, and no training that is made twice."""

import json
import shutil

import pytest

from fbnetv3 import InputError
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.runs import confirm as module
from fbnetv3.search.runs.confirm import Confirmation, confirm, load_confirmation, table_rows
from fbnetv3.search.runs.folder import load_search
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from fbnetv3.training.trainer import DivergedError
from tests.search.scripted import change_first

ALONE = ExecutorSettings(workers=1)


@pytest.fixture
def ended(trained_search, tmp_path):
    """A copy of a search with random search and final trainings."""
    return shutil.copytree(trained_search[1], tmp_path / "run", ignore=shutil.ignore_patterns("plots"))


class Finals:
    """Stands in for the final trainings: accuracies that are made up, and every training that was asked for."""

    def __init__(self):
        self.jobs, self.stops, self.diverges = [], None, None

    def __call__(self, context, job, folder, progress, settings, own):
        name = f"{folder.parent.name}/{folder.name}"
        if name == self.stops:
            raise KeyboardInterrupt
        self.jobs.append((name, job))
        if name == self.diverges:
            raise DivergedError("the loss is nan")
        return (), {"split": "test", "epochs": job.epochs, "acc1": 50.0 + len(self.jobs)}


@pytest.fixture
def finals(monkeypatch):
    recorded = Finals()
    monkeypatch.setattr(module, "make_final", recorded)
    return recorded


# ---------------------------------------------------------------- intervals


def test_intervals_by_hand():
    """Deviations of 1 point around both means: a variance of 4 / 2 with two degrees of freedom, whose t is 4.3027."""
    two = Confirmation("test", 6, {"nars": [80.0, 82.0], "random": [78.0, 80.0]})
    ours, gain = two.estimate("nars"), two.gain("random")
    assert (ours.mean, ours.high - ours.mean) == (81.0, pytest.approx(4.3027, abs=1e-4))
    assert (gain.mean, gain.mean - gain.low) == (2.0, pytest.approx(4.3027 * 2**0.5, abs=1e-4))
    assert two.seeds == 2


def test_a_training_that_diverged_is_left_out():
    one = Confirmation("test", 6, {"nars": [80.0, None, 82.0], "base_recipe": [None, None, None]})
    assert one.ended("nars") == [80.0, 82.0]
    assert one.estimate("nars").mean == 81.0
    assert one.estimate("base_recipe") is None
    assert one.gain("base_recipe") is None
    assert table_rows(one)[1] == {
        "answer": "the same network with the base recipe",
        "test_acc1": None,
        "interval": None,
        "nars_is_better_by": None,
        "interval_of_that": None,
        "trainings": 0,
    }


def test_one_training_each_gives_no_interval():
    gain = Confirmation("test", 6, {"nars": [80.0], "random": [78.0]}).gain("random")
    assert (gain.mean, gain.low, gain.high) == (2.0, None, None)


# ---------------------------------------------------------------- trainings


def test_all_answers_are_trained_with_the_same_seeds(trained_search, ended, finals):
    found = confirm(ended, 2, silent, executor=ALONE)
    nars, random = (result.pair.measured["acc1"] for result in trained_search[2])
    assert found == Confirmation(
        "test", 2, {"nars": [nars, 51.0], "random": [random, 52.0], "base_recipe": [53.0, 54.0]}
    )
    assert load_confirmation(load_search(ended)) == found
    jobs = dict(finals.jobs)
    # The final trainings of the search have the first seed already.
    assert list(jobs) == ["nars/seed1", "random/seed1", "base_recipe/seed0", "base_recipe/seed1"]
    assert jobs["nars/seed1"].seed == jobs["random/seed1"].seed == jobs["base_recipe/seed1"].seed
    assert jobs["base_recipe/seed0"].seed == trained_search[2][0].pair.provenance["training_seed"]
    ours, base = jobs["nars/seed1"].candidate, jobs["base_recipe/seed1"].candidate
    assert ours.arch.rows == base.arch.rows
    assert (ours.recipe, base.recipe) == (trained_search[2][0].pair.recipe, load_search(ended).context.base)


def test_more_seeds_are_added_to_those_there_are(ended, finals):
    first = confirm(ended, 2, silent, executor=ALONE)
    finals.jobs.clear()
    more = confirm(ended, 3, silent, executor=ALONE)
    assert [name for name, _ in finals.jobs] == ["nars/seed2", "random/seed2", "base_recipe/seed2"]
    assert {name: values[:2] for name, values in more.accuracies.items()} == first.accuracies
    finals.jobs.clear()
    assert confirm(ended, 2, silent, executor=ALONE) == more  # fewer seeds take none away
    assert not finals.jobs


def test_what_was_trained_before_a_stop_is_kept(ended, finals):
    finals.stops = "base_recipe/seed0"
    with pytest.raises(KeyboardInterrupt):
        confirm(ended, 2, silent, executor=ALONE)
    assert load_confirmation(load_search(ended)) is None
    finals.stops = None
    confirm(ended, 2, silent, executor=ALONE)
    assert [name for name, _ in finals.jobs] == ["nars/seed1", "random/seed1", "base_recipe/seed0", "base_recipe/seed1"]


def test_a_training_that_diverges_is_recorded(ended, finals):
    finals.diverges = "base_recipe/seed1"
    assert confirm(ended, 2, silent, executor=ALONE).accuracies["base_recipe"] == [53.0, None]
    assert json.loads((ended / "confirmed.json").read_text())["accuracies"]["base_recipe"] == [53.0, None]


def test_the_accuracy_is_that_of_the_weights_on_the_test_images(trained_search, ended):
    found = confirm(ended, 2, silent, executor=ExecutorSettings(workers=2))
    for name, values in found.accuracies.items():
        model = read_weight_file(ended / "confirm" / name / "seed1" / "weights.pt").build()
        assert measure(model, load_data(trained_search[0].data), "test").acc1 == values[1]
    before = {path: path.stat().st_mtime_ns for path in (ended / "confirm").rglob("*.pt")}
    assert confirm(ended, 2, silent, executor=ALONE) == found
    assert {path: path.stat().st_mtime_ns for path in (ended / "confirm").rglob("*.pt")} == before


# ---------------------------------------------------------------- refusals


def test_a_search_without_a_final_training_has_nothing_to_confirm(scripted_search):
    with pytest.raises(InputError, match="made no final training, which could be repeated"):
        confirm(scripted_search[1], 2, silent)


def test_a_search_that_was_changed_is_refused(ended, finals):
    change_first(ended / "ledger.jsonl", candidate=[99] * 24)
    with pytest.raises(InputError, match="no index row of the space micro"):
        confirm(ended, 2, silent)
    assert not finals.jobs


def test_a_damaged_file_is_named(ended):
    (ended / "confirmed.json").write_text("{}")
    with pytest.raises(InputError, match=r"confirmed\.json.*split"):
        load_confirmation(load_search(ended))
