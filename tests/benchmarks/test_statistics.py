"""Ratios of times, paired differences and means over seeds, by hand."""

import numpy as np
import pytest

from fbnetv3.benchmarks.statistics import fastest, over_seeds, paired_difference, speed_ratio


def test_a_ratio_is_one_of_medians():
    ratio = speed_ratio([2.0, 4.0, 100.0], [1.0, 1.0, 2.0])
    assert ratio.ratio == 4.0
    assert ratio.low <= 4.0 <= ratio.high
    assert ratio.as_dict() == {"ratio": 4.0, "low": ratio.low, "high": ratio.high}
    assert speed_ratio([2.0, 4.0, 100.0], [1.0, 1.0, 2.0]) == ratio


def test_an_interval_covers_the_truth_and_shrinks_with_rounds():
    rng = np.random.default_rng(0)
    covered, widths = 0, {20: [], 200: []}
    for _ in range(100):
        for rounds in widths:
            load = rng.lognormal(0, 0.1, rounds)  # slows both
            ratio = speed_ratio(3 * load * rng.lognormal(0, 0.05, rounds), load * rng.lognormal(0, 0.05, rounds))
            widths[rounds].append(ratio.high - ratio.low)
            covered += rounds == 200 and ratio.low <= 3.0 <= ratio.high
    assert 88 <= covered <= 100
    assert np.mean(widths[200]) < 0.5 * np.mean(widths[20])


def test_the_fastest_has_the_smallest_median():
    times = {"a": [1.0, 9.0, 9.0], "b": [2.0, 2.0, 2.0], "c": [1.0, 1.0, 1.0]}
    assert fastest(times, ["a", "b"]) == "b"
    assert fastest(times, list(times)) == "c"


def test_a_paired_difference_by_hand():
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.30265
    found = paired_difference([81.0, 82.0, 83.0], [80.0, 80.0, 80.0])
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert found.rounded(2) == {"mean": 2.0, "low": -0.48, "high": 4.48}


def test_intervals_that_hold_together_are_wider():
    # Of five intervals each has 99%: t(0.995, 2) = 9.92484
    found = paired_difference([81.0, 82.0, 83.0], [80.0, 80.0, 80.0], comparisons=5)
    assert found.high - found.mean == pytest.approx(9.92484 / 3**0.5, rel=1e-5)


def test_accuracies_over_seeds_by_hand():
    assert over_seeds({0: 80.0, 1: 82.0, 2: 84.0}) == {
        "seeds": {"0": 80.0, "1": 82.0, "2": 84.0},
        "n": 3,
        "mean": 82.0,
        "deviation": 2.0,
    }
    assert over_seeds({3: 80.0}) == {"seeds": {"3": 80.0}, "n": 1, "mean": 80.0, "deviation": None}
    assert over_seeds({}) == {"seeds": {}, "n": 0, "mean": None, "deviation": None}


def test_seeds_may_be_texts_and_one_seed_may_have_a_std():
    assert over_seeds({"3": 80.0, "5": 82.0}) == {
        "seeds": {"3": 80.0, "5": 82.0},
        "n": 2,
        "mean": 81.0,
        "deviation": pytest.approx(2**0.5, abs=1e-3),
    }
    assert over_seeds({"0": 80.0}, std_of_one=0.0)["deviation"] == 0.0
