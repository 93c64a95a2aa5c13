"""The pace of trainings and the plan made of it, on a clock that the trainings move."""

import pytest

from fbnetv3.benchmarks.gpu import cifar10_lanes
from fbnetv3.benchmarks.gpu.cifar10_lanes import Lane, Pace, make_plan, measure_pace, open_lanes
from fbnetv3.benchmarks.gpu.trainings import TrainingEvaluator
from fbnetv3.errors import InputError
from fbnetv3.training.recipe import Recipe
from tests.benchmarks.gpu.clock import Card

RECIPE = Recipe(optimizer="sgd", lr=0.05, epochs=3, batch_size=20)


def test_the_pace_of_two_networks(monkeypatch):
    card = Card({"a": 2.0, "b": 4.0}, fixed=1.0)
    monkeypatch.setattr(cifar10_lanes, "time", card)
    lanes = [Lane(name, card.pool(name), 1e9) for name in "ab"]
    # Every fourth image: an epoch of both takes (2 + 4) / 4 seconds, so one of all images takes 6.
    pace = measure_pace(lanes, RECIPE, 1, 4)
    assert pace == Pace(1, 6.0, 2.0, {"a": 2.0, "b": 4.0})


def test_an_epoch_always_takes_some_time(monkeypatch):
    card = Card({"a": 0.0}, fixed=3.0)
    monkeypatch.setattr(cifar10_lanes, "time", card)
    assert measure_pace([Lane("a", card.pool("a"), 1e9)], RECIPE, 1, 1).epoch == pytest.approx(0.1)


def test_a_plan_by_hand():
    # 90 seconds are planned for. Four trainings take 4 x 2 besides their epochs: 82 are left, which are 41 epochs.
    plan = make_plan(100.0, Pace(5, 2.0, 2.0, {}), 3, 1000)
    assert (plan.sweep, plan.epochs) == (3, 32)  # a quarter of 41 in three trainings, and the rest
    assert (make_plan(100.0, Pace(5, 2.0, 2.0, {}), 3, 20).epochs) == 20 - 3


@pytest.mark.parametrize("seconds", [30.0, 60.0, 170.0, 1000.0])
@pytest.mark.parametrize(("epoch", "fixed"), [(0.3, 0.5), (2.0, 0.0), (3.0, 2.0)])
def test_a_plan_fits_the_seconds_and_leaves_little(seconds, epoch, fixed):
    plan = make_plan(seconds, Pace(5, epoch, fixed, {}), 3, 10**6)
    planned = 4 * fixed + (3 * plan.sweep + plan.epochs) * epoch
    assert 0.9 * seconds - epoch < planned <= 0.9 * seconds
    assert plan.epochs >= plan.sweep >= 1


def test_a_time_that_is_too_short_is_named():
    # Four epochs of 2 + 1 seconds, and a tenth of the time to spare.
    with pytest.raises(InputError, match=r"10 seconds are left, .* take 13; give more --seconds"):
        make_plan(10.0, Pace(5, 2.0, 1.0, {}), 3, 1000)


def test_lanes_have_a_process_each(tmp_path):
    with open_lanes(("a", "b"), TrainingEvaluator({}, "cpu", "fp32"), 5.0) as lanes:
        assert [(lane.network, lane.end) for lane in lanes] == [("a", 5.0), ("b", 5.0)]
        assert lanes[0].pool is not lanes[1].pool
