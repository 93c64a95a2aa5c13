"""The model of learning curves: by hand, what it cannot tell, and real trainings that it has not seen."""

import json
import pickle
from statistics import NormalDist

import numpy as np
import pytest

from fbnetv3.search.predictor.learning_curve import FEWEST, LearningCurves
from tests.places import ROOT

RISING = [[k, 5 + k, 10 + k] for k in range(12)]
REAL = np.array(json.loads((ROOT / "tests/reference/tiny_image_net_curves.json").read_text())["curves"])


def model(curves, epochs=3):
    return LearningCurves.of(curves, epochs, seed=0)


@pytest.mark.parametrize(
    ("epochs", "checks"),
    [(140, list(range(14, 140, 14))), (10, list(range(1, 10))), (12, [2, 4, 6, 8, 10]), (2, [1]), (1, [])],
)
def test_a_training_is_looked_at_ten_times_at_most_and_never_at_its_end(epochs, checks):
    assert list(model([], epochs).checks) == checks


@pytest.mark.parametrize("acc1", [[4.5], [4.5, 9.5]])
def test_curves_that_rise_by_ten_let_a_training_rise_by_ten(acc1):
    final = model(RISING).final(acc1)
    assert final.mean == pytest.approx(14.5, abs=0.1)
    assert 0 < final.std < 0.5
    assert final.std_of_mean <= final.std


def test_the_final_accuracy_need_not_rise_with_the_first_one():
    late = model([[k, 20.0, 40.0 - k] for k in range(12)])
    assert late.final([1.5]).mean == pytest.approx(38.5, abs=0.2)
    assert late.final([9.5]).mean == pytest.approx(30.5, abs=0.2)


def test_a_noisy_end_is_predicted_with_its_noise():
    noise = np.random.default_rng(0).normal(0, 2, 60)
    final = model([[k / 2, k / 2, 40 + k / 2 + z] for k, z in enumerate(noise)]).final([15, 15])
    assert abs(final.mean - 55) < 1.5
    assert 1.4 < final.std < 3
    assert final.std_of_mean < final.std / 2


@pytest.mark.parametrize(
    "curves",
    [
        pytest.param(RISING[: FEWEST - 1], id="one curve too few"),
        pytest.param([*RISING[: FEWEST - 1], [7, 12], []], id="a shorter one and a diverged one do not count"),
        pytest.param([[k, k, 50] for k in range(12)], id="equal ends"),
        pytest.param([[5, 5, k] for k in range(12)], id="equal beginnings"),
        pytest.param([[k * 7 % 12, k * 5 % 12, 40 + k] for k in range(12)], id="beginnings that rank nothing"),
        pytest.param([], id="none"),
    ],
)
def test_what_curves_cannot_tell(curves):
    assert model(curves).final([6.0]) is None


def test_as_few_curves_as_promised_are_enough():
    assert model(RISING[:FEWEST]).final([4.5]).mean == pytest.approx(14.5, abs=0.5)


def test_a_copy_in_another_process_expects_the_same():
    here = model(REAL[:32].tolist(), 14)
    there = pickle.loads(pickle.dumps(here))
    assert there.final(REAL[40, :6]) == here.final(REAL[40, :6]) == model(REAL[:32].tolist(), 14).final(REAL[40, :6])


@pytest.mark.parametrize("known", [12, 32])
def test_intervals_hold_real_trainings_that_were_not_seen_as_often_as_they_say(known):
    distances = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(REAL))
        curves = LearningCurves.of(REAL[order[:known]].tolist(), 14, seed)
        for row in REAL[order[known:]]:
            found = [(curves.final(row[:epoch]), row[-1]) for epoch in (4, 6, 8, 10)]
            distances += [abs(truth - final.mean) / final.std for final, truth in found if final]
    assert len(distances) > 200
    inside = {
        level: np.mean(distances <= np.float64(NormalDist().inv_cdf(0.5 + level / 2))) for level in (0.5, 0.8, 0.95)
    }
    assert 0.4 < inside[0.5] < 0.75
    assert 0.7 < inside[0.8] < 0.92
    assert 0.85 < inside[0.95] < 0.99


def test_later_epochs_of_real_trainings_tell_more():
    curves = LearningCurves.of(REAL[:32].tolist(), 14, 0)
    std = [np.median([curves.final(row[:epoch]).std for row in REAL[32:]]) for epoch in (4, 6, 10, 13)]
    assert std == sorted(std, reverse=True)
    assert std[-1] < std[0] / 5
