"""Early stopping and rank correlations, by hand-countable cases."""

import math

import pytest

from fbnetv3.search.nars.early_stopping import (
    agreement,
    early_stopping_epoch,
    fewest_candidates,
    lower_bound,
    noise_ceiling,
    rank_correlations,
    trial_epochs,
)
from fbnetv3.search.trial import Trial
from tests.search.scripted import config

NAN = math.nan
RANKS = range(9)  # nine candidates, as many as the quickstart has in a batch
CLEAR = [[k, 10 + k, 20 + k] for k in RANKS]
# After the first epoch the ranking is that of the end, after the second the first and the last candidate are swapped.
DIP = [[k, 10 + {0: 8, 8: 0}.get(k, k), 20 + k] for k in RANKS]
# The other way round.
LATE = [[{0: 8, 8: 0}.get(k, k), 10 + k, 20 + k] for k in RANKS]


@pytest.mark.parametrize(
    ("curves", "threshold", "epochs", "expected"),
    [
        pytest.param(CLEAR, 0.92, 3, 1, id="the first epoch ranks like the last, and so does the second"),
        pytest.param(LATE, 0.92, 3, 2, id="the second epoch ranks like the last"),
        pytest.param(DIP, 0.92, 3, 3, id="the first epoch is an accident"),
        pytest.param(CLEAR, 0.98, 3, 1, id="nine candidates are enough for the threshold of the quickstart"),
        pytest.param(CLEAR[:8], 0.98, 3, 3, id="eight are not"),
        pytest.param(CLEAR[:7], 0.92, 3, 1, id="seven are enough for that of the paper"),
        pytest.param(CLEAR[:6], 0.92, 3, 3, id="six are not"),
        pytest.param(CLEAR, 1.0, 3, 3, id="no number is enough for certainty"),
        pytest.param([*LATE, []], 0.92, 3, 2, id="a diverged training is left out"),
        pytest.param([[5, 5, k] for k in RANKS], 0.92, 3, 3, id="equal values rank nothing"),
        pytest.param([[k, k, 5] for k in RANKS], 0.92, 3, 3, id="equal values at the end rank nothing"),
        pytest.param(CLEAR[:3], 0.5, 3, 3, id="three trainings say nothing"),
        pytest.param(CLEAR[:4], 0.4, 3, 1, id="four may say a little"),
        pytest.param([[], []], 0.92, 3, 3, id="no training succeeded"),
        pytest.param([[k] for k in RANKS], 0.92, 1, 1, id="one epoch is the last"),
        pytest.param(CLEAR, 0.92, 4, 4, id="the last epoch of shorter trainings is unknown"),
    ],
)
def test_early_stopping_epoch_by_hand(curves, threshold, epochs, expected):
    assert early_stopping_epoch(curves, threshold, epochs) == expected


def test_the_lower_bound_by_hand():
    # Fisher's z of 0.8 is half of log(1.8 / 0.2); 12 candidates have a standard error of 1 / 3.
    assert lower_bound(0.8, 12) == pytest.approx(math.tanh(math.log(9) / 2 - 1 / 3))
    assert lower_bound(-0.8, 12) == pytest.approx(math.tanh(-math.log(9) / 2 - 1 / 3))


def test_a_perfect_ranking_is_not_certain():
    # Two swapped neighbours of 9 candidates: 1 - 6 * 2 / 720. A perfect ranking counts as half of that below 1.
    assert lower_bound(1.0, 9) == lower_bound(1 - 6 / 720, 9) > lower_bound(1 - 12 / 720, 9)
    assert -1 < lower_bound(-1.0, 9) < -0.99
    assert lower_bound(1.0, 10**6) < 1


@pytest.mark.parametrize(("correlation", "candidates"), [(0.9, 3), (1.0, 0), (NAN, 9)])
def test_the_lower_bound_may_be_unknown(correlation, candidates):
    assert math.isnan(lower_bound(correlation, candidates))


def test_the_candidates_that_a_threshold_needs():
    assert [fewest_candidates(t) for t in (0.4, 0.5, 0.92, 0.98, 1.0)] == [4, 5, 7, 9, None]


def trials(curves, *later):
    """The trials of a first round with these curves, and of later rounds with these (round, epochs)."""
    places = [(1, i, list(curve), len(curve)) for i, curve in enumerate(curves)]
    places += [(round, 0, [50.0] * epochs, epochs) for round, epochs in later]
    return [Trial(r, i, [0], 0, epochs, 1, 1, None, acc1, "ok", 0.0) for r, i, acc1, epochs in places]


@pytest.mark.parametrize(
    ("curves", "later", "expected"),
    [
        pytest.param(DIP, [], 3, id="a new search"),
        pytest.param(DIP, [(0, 3)], 3, id="repeats are no later round"),
        pytest.param(DIP, [(2, 1)], 1, id="an earlier version chose the first epoch that reaches the threshold"),
        pytest.param(DIP, [(2, 1), (3, 1), (4, 3)], 1, id="finalists train to the end"),
        pytest.param(DIP, [(2, 2)], 3, id="no version chose the second epoch"),
        pytest.param(DIP, [(2, 1), (3, 3)], 3, id="no version changes the length"),
        pytest.param(LATE, [(2, 2)], 2, id="both versions agree"),
        pytest.param(CLEAR[:6], [(2, 1)], 1, id="an earlier version with few candidates"),
    ],
)
def test_a_search_goes_on_with_the_epochs_that_it_began_with(tmp_path, curves, later, expected):
    assert trial_epochs(trials(curves, *later), config(tmp_path, rounds=3, early_stopping=0.92), 3) == expected


def test_with_a_model_of_curves_all_epochs_are_planned(tmp_path):
    """The rule would stop after the first one."""
    assert trial_epochs(trials(CLEAR), config(tmp_path, early_stopping=0.92), 3) == 1
    assert trial_epochs(trials(CLEAR), config(tmp_path, early_stopping=0.92, stopping="model"), 3) == 3


def test_agreement_by_hand():
    # Ranks 2 1 4 3 5: squared differences add up to 4, 1 - 6 * 4 / 120 = 0.8; of ten pairs two are turned round, 0.6.
    found = agreement([1, 2, 3, 4, 5], [61, 60, 64, 63, 65])
    assert (found.spearman, found.kendall) == (pytest.approx(0.8), pytest.approx(0.6))


def test_ties_have_their_mean_rank():
    # Ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2: sqrt(3) / 2.
    # Of three pairs one is tied: tau-b = 2 / sqrt(2 * 3).
    found = agreement([7, 7, 9], [1, 2, 3])
    assert (found.spearman, found.kendall) == (pytest.approx(3**0.5 / 2), pytest.approx(2 / 6**0.5))


@pytest.mark.parametrize(
    ("a", "b"), [([1, 2], [1, 2]), ([5, 5, 5], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([], [])], ids=str
)
def test_agreement_is_unknown_where_there_is_nothing_to_rank(a, b):
    assert math.isnan(agreement(a, b).spearman)
    assert math.isnan(agreement(a, b).kendall)


def test_rank_correlations_by_epoch():
    curves = [[61, 1, 1], [60, 2, 2], [64, 2, 3], [63, 2, 4], [65, 2, 5], [], [70, 90]]
    first, second, last = rank_correlations(curves)  # the diverged and the failed one are left out
    assert (first.spearman, first.kendall) == (pytest.approx(0.8), pytest.approx(0.6))
    assert second.spearman == pytest.approx(agreement([1, 2, 2, 2, 2], [1, 2, 3, 4, 5]).spearman)
    assert (last.spearman, last.kendall) == (pytest.approx(1), pytest.approx(1))


def test_rank_correlations_without_curves_are_empty():
    assert rank_correlations([]) == []
    assert rank_correlations([[], []]) == []


def test_rank_correlations_of_two_curves_are_unknown():
    assert all(math.isnan(c.spearman) for c in rank_correlations([[1, 2], [2, 1]]))


def test_noise_ceiling_is_the_agreement_of_two_seeds():
    found = noise_ceiling([[1, 2, 3, 4, 5], [61, 60, 64, 63, 65]])
    assert (found.spearman, found.kendall) == (pytest.approx(0.8), pytest.approx(0.6))


def test_noise_ceiling_is_the_mean_over_all_pairs_of_seeds():
    # Seeds 1 and 2: 0.8 and 0.6, as above; 1 and 3 agree; 2 and 3 as 1 and 2.
    found = noise_ceiling([[1, 2, 3, 4, 5], [61, 60, 64, 63, 65], [11, 12, 13, 14, 15]])
    assert (found.spearman, found.kendall) == (pytest.approx((0.8 + 1 + 0.8) / 3), pytest.approx((0.6 + 1 + 0.6) / 3))


def test_noise_ceiling_leaves_out_what_only_one_seed_has():
    # 1 2 3 and 61 60 64: rank correlation 0.5.
    assert noise_ceiling([[1, 2, 3, NAN], [61, 60, 64, 99]]).spearman == pytest.approx(0.5)
    assert noise_ceiling([[61, 60, 64, 99], [1, 2, 3, NAN]]).spearman == pytest.approx(0.5)


@pytest.mark.parametrize(
    "table", [[[1, 2, 3]], [[1, 2], [2, 3]], [[1, 2, NAN], [1, NAN, 3]], [[5, 5, 5], [1, 2, 3]], []], ids=str
)
def test_noise_ceiling_is_unknown_without_three_shared_candidates_to_rank(table):
    found = noise_ceiling(table)
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall)
