"""Trainings that end early because they are hopeless: which end, which do not, and what the predictor learns from them."""

import dataclasses
import pickle

import numpy as np
import pytest

from fbnetv3.search.nars.hopeless import hopeless, labels_of
from fbnetv3.search.trial import Trial

EPOCHS = 3
# Twelve trainings that rise by ten, to 20 .. 42, and twelve that start late: from 0 .. 2.75 to 45 .. 56.
FAST = [[10 + k, 15 + k, 20 + k] for k in range(0, 24, 2)]
LATE = [[k / 4, 3 + k, 45 + k] for k in range(12)]


def trial(acc1, index=0, **changes):
    made = Trial(1, index, [index], index, EPOCHS, 1, 1, None, list(acc1), "ok", 0.0)
    return dataclasses.replace(made, **changes)


def trials(curves):
    return [trial(acc1, index) for index, acc1 in enumerate(curves)]


def rule(curves, chance=0.05):
    return hopeless(trials(curves), EPOCHS, chance, seed=0)


@pytest.mark.parametrize(
    ("acc1", "ends"),
    [
        pytest.param([15.0], True, id="it will reach 25, and the best three have 38 to 42"),
        pytest.param([15.0, 20.0], True, id="the same, one epoch later"),
        pytest.param([34.0], False, id="it will reach 44"),
        pytest.param([30.0], False, id="it will reach 40, as the second best did"),
        pytest.param([26.0], True, id="it will reach 36, as the fourth best did"),
        pytest.param([15.0, 20.0, 25.0], False, id="it has ended anyway"),
    ],
)
def test_a_hopeless_training_ends_and_a_good_one_does_not(acc1, ends):
    assert rule(FAST)(acc1) is ends


def test_a_training_far_below_all_others_ends():
    """No curve comes near it, so the expected accuracy is the lowest one that is predicted, with next to no doubt."""
    end = np.linspace(40, 90, 20)[:, None]
    stop = hopeless(trials((end * [0.5, 0.8, 1.0]).tolist()), EPOCHS, 0.05, 0)
    assert stop.curves.final([0.5]).std < 1e-3
    assert stop([0.5])


def test_a_late_bloomer_does_not_end():
    stop = rule(FAST + LATE)
    assert stop.limit == 54
    late, fast = [2.8, 14.5], [20.0, 25.0]  # the late one is behind, and will be better than the best
    assert not stop(late)
    assert stop(fast)
    assert rule(FAST)(late)  # those who know no late bloomers cannot recognise one


def test_nothing_ends_while_the_curves_cannot_tell():
    assert not rule(FAST[:7])([0.0])
    assert not rule([[k * 7 % 12, k * 5 % 12, 40 + k] for k in range(12)])([0.0])
    assert hopeless([trial([], status="diverged")], EPOCHS, 0.05, 0) is None


def test_a_training_ends_if_its_chance_is_smaller_than_asked_for():
    noisy = [[k, k, 20 + k + 3 * (-1) ** k] for k in range(24)]
    behind = [20.0, 20.0]
    assert rule(noisy, chance=0.45)(behind)
    assert not rule(noisy, chance=0.01)(behind)


def test_stopped_and_shorter_trainings_teach_no_curve():
    made = [*trials(FAST), trial([90.0, 95.0], 20, stopped=True), trial([90.0], 21, epochs=1)]
    stop = hopeless(made, EPOCHS, 0.05, 0)
    assert (len(stop.curves.curves), stop.limit) == (12, 38)


def test_a_rule_is_sent_to_other_processes():
    stop = pickle.loads(pickle.dumps(rule(FAST)))
    assert (stop([15.0]), stop([34.0])) == (True, False)


def test_trainings_that_were_not_stopped_count_as_measured():
    made = [
        *trials([[1.0, 2.0, 3.0]]),
        trial([], 1, status="diverged"),
        trial([], 2, status="failed"),
        trial([7.0], 3, epochs=1),
    ]
    labels = labels_of(made, EPOCHS, 10.0, 0)
    assert labels.trials == [made[0], made[1], made[3]]
    assert labels.accuracies.tolist() == [3.0, 10.0, 7.0]
    assert labels.variance is None
    assert labels_of(made, 2, 10.0, 0).accuracies.tolist() == [2.0, 10.0, 7.0]


def test_a_stopped_training_counts_with_what_is_expected_of_it():
    made = [*trials(FAST), trial([15.0], 20, stopped=True), trial([], 21, status="diverged")]
    labels = labels_of(made, EPOCHS, 1.0, 0)
    assert labels.trials == made
    assert labels.accuracies[:12].tolist() == [row[-1] for row in FAST]
    assert labels.accuracies[12] == pytest.approx(25, abs=0.2)
    assert labels.accuracies[13] == 1.0
    assert labels.variance[12] > 0
    assert [*labels.variance[:12], labels.variance[13]] == [0.0] * 13


def test_the_order_in_which_trainings_ended_makes_no_difference():
    made = [*trials(FAST), trial([35.0], 0, round=2, stopped=True), trial([15.0], 1, round=2, stopped=True)]
    labels, again = labels_of(made, EPOCHS, 1.0, 0), labels_of(made[::-1], EPOCHS, 1.0, 0)
    assert again.trials == labels.trials == made
    assert again.accuracies.tolist() == labels.accuracies.tolist()
    assert again.variance.tolist() == labels.variance.tolist()


def test_a_stopped_training_of_which_nothing_can_be_told_teaches_nothing():
    made = [*trials(FAST[:7]), trial([5.0], 20, stopped=True)]
    labels = labels_of(made, EPOCHS, 1.0, 0)
    assert labels.trials == made[:7]
    assert labels.variance.tolist() == [0.0] * 7
