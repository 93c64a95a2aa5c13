"""Early stopping and rank correlations, by hand-countable cases."""

import math

import pytest

from fbnetv3.search.nars.early_stopping import agreement, early_stopping_epoch, noise_ceiling, rank_correlations

NAN = math.nan
AGREE = [[1, 10, 11], [2, 20, 21], [3, 30, 31], [0, 5, 6]]
LATE = [[3, 10, 11], [2, 20, 21], [1, 30, 31], [0, 40, 41]]


@pytest.mark.parametrize(
    ("curves", "threshold", "epochs", "expected"),
    [
        pytest.param(AGREE, 0.92, 3, 1, id="the first epoch ranks like the last"),
        pytest.param(LATE, 0.92, 3, 2, id="the second epoch ranks like the last"),
        pytest.param([[1, 2], [2, 1], [3, 3]], 0.92, 2, 2, id="only the last epoch ranks like itself"),
        pytest.param([[1, 2], [2, 1], [3, 3]], 0.5, 2, 1, id="a lower threshold is reached earlier"),
        pytest.param([*LATE, []], 0.92, 3, 2, id="a diverged training is left out"),
        pytest.param([[5, 5, 1], [5, 5, 2], [5, 5, 3]], 0.92, 3, 3, id="equal values rank nothing"),
        pytest.param([[1, 2, 3], [2, 3, 4]], 0.92, 3, 3, id="two trainings rank nothing"),
        pytest.param([[], []], 0.92, 3, 3, id="no training succeeded"),
        pytest.param([[1, 2], [2, 3], [3, 4]], 0.92, 4, 4, id="the last epoch of shorter trainings is unknown"),
    ],
)
def test_early_stopping_epoch_by_hand(curves, threshold, epochs, expected):
    assert early_stopping_epoch(curves, threshold, epochs) == expected


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
