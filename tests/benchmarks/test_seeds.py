"""What several seeds say together, by hand."""

import pytest

from fbnetv3.benchmarks.seeds import paired_difference, spread


def test_paired_difference_by_hand():
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.30265
    found = paired_difference([81.0, 82.0, 83.0], [80.0, 80.0, 80.0])
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_spread_by_hand():
    assert spread({0: 80.0, 1: 82.0, 2: 84.0}) == {
        "seeds": {"0": 80.0, "1": 82.0, "2": 84.0},
        "n": 3,
        "mean": 82.0,
        "deviation": 2.0,
    }
    assert spread({3: 80.0}) == {"seeds": {"3": 80.0}, "n": 1, "mean": 80.0, "deviation": None}
    assert spread({}) == {"seeds": {}, "n": 0, "mean": None, "deviation": None}


def test_a_spread_of_names_and_of_one_seed():
    assert spread({"3": 80.0, "5": 82.0}) == {
        "seeds": {"3": 80.0, "5": 82.0},
        "n": 2,
        "mean": 81.0,
        "deviation": pytest.approx(2**0.5, abs=1e-3),
    }
    assert spread({"0": 80.0}, alone=0.0)["deviation"] == 0.0
