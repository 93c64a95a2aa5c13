"""The numbers of a report, by hand."""

import dataclasses
import math

import numpy as np
import pytest

from fbnetv3.search.report.analysis import (
    accuracies,
    by_round,
    convergence,
    coverage,
    errors,
    measured,
    predictions,
    repeated_accuracies,
    summary,
)
from tests.search.made_up import EPOCHS, MEASURED, PREDICTED, diverged, failed, make_config, make_trials, repeats


@pytest.fixture
def trials(space):
    """Two rounds of five trials, all of them ok."""
    return make_trials(make_config(), space, 2)


def test_only_trials_with_an_accuracy_are_measured(trials):
    assert measured([trials[0], diverged(trials[1]), failed(trials[2], "gone"), trials[3]]) == [trials[0], trials[3]]


def test_a_stopped_training_is_not_compared_but_costs_its_epochs(trials):
    trials[0] = dataclasses.replace(trials[0], acc1=[99.0], stopped=True)
    assert measured(trials[:2]) == [trials[1]]
    assert accuracies(trials[:2], EPOCHS) == [MEASURED[1]]
    curve = convergence(trials[:2], EPOCHS)
    assert curve.epochs.tolist() == [1, 4]
    assert np.array_equal(curve.best, [math.nan, MEASURED[1]], equal_nan=True)


def test_trials_are_compared_after_the_same_number_of_epochs(trials):
    assert accuracies(trials[:5], EPOCHS) == list(MEASURED)
    assert accuracies(trials[:5], 3) == [90.0, 91.0, 92.0, 93.0, 94.0]


def test_a_shorter_trial_counts_with_its_last_epoch(trials):
    assert accuracies(trials[5:], 99) == list(MEASURED)


def test_predictions_are_those_of_measured_trials_that_have_one(trials):
    trials[6] = diverged(trials[6])
    found = predictions(trials, EPOCHS)
    assert found[:, 0].tolist() == [PREDICTED[i] for i in (0, 2, 3, 4)]
    assert found[:, 1].tolist() == [trials[i].predicted[1] for i in (5, 7, 8, 9)]
    assert found[:, 2].tolist() == [MEASURED[i] for i in (0, 2, 3, 4)]


def test_there_are_no_predictions_of_a_first_round(trials):
    assert predictions(trials[:5], EPOCHS).shape == (0, 3)


def test_two_trials_have_no_rank_correlation(trials):
    assert summary(trials[5:7], EPOCHS) == ["2", "2", "0", "0", "61.0%", "60.5%", "60.5%", "-", "1.0"]


def test_the_summary_of_diverged_trials_has_only_counts(trials):
    lost = [diverged(t) for t in trials[5:]]
    assert summary(lost, EPOCHS) == ["5", "2", "5", "0", "-", "-", "-", "-", "-"]


def test_equal_predictions_have_no_rank_correlation(trials):
    equal = [dataclasses.replace(t, predicted=[60.0, 0.1]) for t in trials[5:]]
    assert summary(equal, EPOCHS)[7] == "-"


def test_a_summary_names_all_lengths_of_training(trials):
    assert summary(trials, EPOCHS)[:2] == ["10", "2, 3"]


def test_rounds_are_ordered_with_the_repeats_after_the_first(trials):
    again = repeats(trials, 70.0, 71.0)
    found = by_round([*reversed(trials), *again])
    assert list(found) == [1, 0, 2]
    assert found == {1: trials[:5], 0: again, 2: trials[5:]}


def test_repeated_accuracies_are_a_row_for_each_seed(trials):
    again = repeats(trials, 70.0, 71.0)
    trials[1] = diverged(trials[1])
    table = repeated_accuracies([*again, *trials])
    assert np.array_equal(table, [[90.0, math.nan], [70.0, 71.0]], equal_nan=True)


def test_without_repeats_there_are_no_repeated_accuracies(trials):
    assert repeated_accuracies(trials).size == 0


def test_a_repeat_of_an_unknown_candidate_is_left_out(trials):
    (stranger,) = repeats(trials[5:], 70.0)
    assert repeated_accuracies([*trials[:5], stranger]).size == 0


def test_convergence_by_hand(trials):
    trials[1] = diverged(trials[1])
    trials += repeats(trials, 99.0)
    curve = convergence(reversed(trials), EPOCHS)  # whatever the order in the ledger
    # Five of 3 epochs, one of them diverged; a repeat of 3, which is no candidate; five of 2.
    assert curve.epochs.tolist() == [3, 6, 9, 12, 15, 18, 20, 22, 24, 26, 28]
    assert curve.best.tolist() == [61, 61, 64, 64, 65, 65, 65, 65, 65, 65, 65]


def test_nothing_is_best_before_the_first_measured_trial(trials):
    assert np.isnan(convergence([diverged(t) for t in trials[:2]], EPOCHS).best).all()


def test_equal_errors_are_told_once_with_the_first_place(trials):
    trials[6], trials[7] = failed(trials[6], "disk full"), failed(trials[7], "disk full")
    assert errors(trials) == ["round 2, candidate 1: disk full"]


def test_at_most_five_errors_are_told(trials):
    many = [failed(t, f"error {i}") for i, t in enumerate(trials)]
    assert errors(many) == [f"round 1, candidate {i}: error {i}" for i in range(5)]
    assert errors(many, most=1) == ["round 1, candidate 0: error 0"]


def test_a_failure_without_a_text_is_told(trials):
    assert errors([failed(trials[0], "")]) == ["round 1, candidate 0: no text was kept"]


def test_a_diverged_training_is_no_error(trials):
    assert errors([diverged(trials[0])]) == []


def test_the_share_of_predictions_inside_their_intervals_by_hand():
    """The distances are 0, 1, 1.5 and 3 standard deviations; the intervals reach 0.67, 1.28 and 1.96."""
    pairs = np.array([[60.0, 2.0, 60.0], [60.0, 2.0, 62.0], [60.0, 2.0, 57.0], [60.0, 2.0, 66.0]])
    found = coverage(pairs)
    assert (found.trials, found.inside) == (4, (0.25, 0.5, 0.75))
    assert found.rows()[0] == {"interval": 0.5, "inside": 0.25, "trials": 4}


def test_without_predictions_there_is_no_share():
    assert coverage(np.empty((0, 3))) is None
