import pytest

from fbnetv3.benchmarks import readme
from fbnetv3.benchmarks.nars_vs_random import NAME, summary, trial_quality
from fbnetv3.benchmarks.result import load_result
from fbnetv3.search.ledger import Trial


def result(nars, random):
    return {
        "nars": {"test_acc1": nars, "trainings": 40, "training_seconds": 10.0},
        "random": {"test_acc1": random, "trainings": 40, "training_seconds": 20.0},
        "trials": {"median_random": 75.0},
    }


def test_summary_pairs_by_seed():
    values = summary([7, 8], [result(84.0, 83.0), result(85.0, 83.0)])
    assert values["seeds"] == {"7": {"nars": 84.0, "random": 83.0}, "8": {"nars": 85.0, "random": 83.0}}
    assert values["mean"] == {"nars": 84.5, "random": 83.0}
    assert values["difference"]["mean"] == 1.5
    assert values["training_seconds"] == {"nars": 10.0, "random": 20.0}


def test_trial_quality_by_hand():
    def trial(round, predicted, acc1):
        return Trial(round, 0, [0], 0, 2, 1, 1, predicted, acc1, "ok" if acc1 else "diverged", 0.0)

    nars = [trial(1, None, [1.0, 60.0]), trial(1, None, [1.0, 70.0])]
    nars += [trial(2, [80.0, 1.0], [1.0, 71.0]), trial(2, [82.0, 1.0], [1.0, 75.0]), trial(2, [81.0, 1.0], [])]
    quality = trial_quality(nars, [trial(1, None, [1.0, 50.0]), trial(1, None, [1.0, 52.0])], 2)
    assert quality == {
        "median_first_batch": 65.0,
        "median_last_batch": 73.0,
        "median_random": 51.0,
        "rank_correlation": pytest.approx(1.0),
        "mean_absolute_error": 8.0,
    }


def test_the_committed_result_follows_from_its_seeds():
    values = load_result(NAME).values
    assert len(values["seeds"]) >= 10
    rows = [result(row["nars"], row["random"]) for row in values["seeds"].values()]
    again = summary(list(map(int, values["seeds"])), rows)
    assert again["mean"] == values["mean"]
    assert again["difference"] == values["difference"]


@pytest.mark.parametrize(("low", "words"), [(0.1, "which excludes zero"), (-0.1, "which does not exclude zero")])
def test_the_readme_says_what_the_interval_says(monkeypatch, low, words):
    stored = load_result(NAME)
    stored.values["difference"] |= {"mean": 1.0, "low": low, "high": 2.0}
    monkeypatch.setattr(readme, "load_result", lambda name: stored)
    assert words in readme.comparison()
