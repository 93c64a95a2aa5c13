"""Batches and early stopping, by hand-countable cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbnetv3.errors import InputError
from fbnetv3.search.nars.early_stopping import agreement, early_stopping_epoch, noise_ceiling, rank_correlations
from fbnetv3.search.nars.select import first_batch, promising_batch

NAN = math.nan


def test_first_batch_is_random_and_seeded():
    assert np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 3))
    assert len(set(first_batch(100, 8, 3))) == 8
    assert not np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 4))


def test_promising_batch_by_hand():
    members = np.array([[9.0, 8, 7, 1, 0], [0.0, 1, 2, 3, 9]])
    assert promising_batch(members, np.zeros(5, bool), 3).tolist() == [0, 4, 1]
    assert promising_batch(members, np.array([True, False, False, False, True]), 3).tolist() == [1, 3, 2]
    with pytest.raises(InputError, match="2 candidates left, a batch needs 3"):
        promising_batch(members, np.array([True, True, True, False, False]), 3)


def test_early_stopping_epoch_by_hand():
    agree = [[1, 10, 11], [2, 20, 21], [3, 30, 31], [0, 5, 6]]
    late = [[3, 10, 11], [2, 20, 21], [1, 30, 31], [0, 40, 41]]
    assert early_stopping_epoch(agree, 0.92, 3) == 1
    assert early_stopping_epoch(late, 0.92, 3) == 2
    assert early_stopping_epoch([[1, 2], [2, 1], [3, 3]], 0.92, 2) == 2
    assert early_stopping_epoch([*late, []], 0.92, 3) == 2  # a diverged training is left out
    assert early_stopping_epoch([[5, 5, 1], [5, 5, 2], [5, 5, 3]], 0.92, 3) == 3  # no ranking in equal values
    assert early_stopping_epoch([[1, 2, 3], [2, 3, 4]], 0.92, 3) == 3  # two rank nothing
    assert early_stopping_epoch([[], []], 0.92, 3) == 3


def distances(rows):
    """Coordinates in which every two rows differ."""
    return (rows[:, None] != rows[None]).sum(axis=2)[np.triu_indices(len(rows), 1)]


def test_near_copies_at_the_top_do_not_fill_a_batch():
    """The degenerate case: the predictor scores one row and all that differ from it in one coordinate highest."""
    rng = np.random.default_rng(0)
    best = np.zeros(8, np.int64)
    copies = np.repeat(best[None], 24, axis=0)
    copies[np.arange(24), np.arange(24) % 8] = np.arange(24) // 8 + 1
    index = np.concatenate([best[None], copies, rng.integers(4, 20, (200, 8))])
    members = np.linspace(90, 60, len(index))[None]
    tried = np.zeros(len(index), bool)
    assert promising_batch(members, tried, 10).tolist() == list(range(10))
    for distance in (2, 3, 5):
        batch = promising_batch(members, tried, 10, index, distance)
        assert batch[0] == 0  # the favourite itself stays
        assert distances(index[batch]).min() >= distance
        assert (np.diff(batch) > 0).all()  # still by predicted accuracy
    assert distances(index[promising_batch(members, tried, 10, index)]).min() >= 2  # by default


def test_distance_gives_way_when_the_pool_has_no_more():
    # 0000 and 1111 are 4 apart; then 1100 is 2 from both, at the most; 0001 is 1 from 0000.
    index = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    members = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert promising_batch(members, np.zeros(4, bool), 4, index, 4).tolist() == [0, 2, 3, 1]
    assert promising_batch(members, np.zeros(4, bool), 2, index, 1).tolist() == [0, 1]


@given(
    rows=st.lists(st.tuples(*[st.integers(0, 2)] * 5), min_size=4, max_size=40, unique=True),
    wanted=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_rows_are_close_only_where_all_others_were(rows, wanted, seed):
    index, rng = np.array(rows), np.random.default_rng(seed)
    tried = rng.random(len(index)) < 0.3
    m = int((~tried).sum() + 1) // 2
    batch = promising_batch(rng.normal(70, 5, (3, len(index))), tried, m, index, wanted)
    assert len(set(batch)) == m
    assert not tried[batch].any()
    for i in range(1, m):
        nearest = (index[:, None] != index[batch[:i]][None]).sum(axis=2).min(axis=1)
        left = ~tried
        left[batch[:i]] = False
        assert nearest[batch[i]] >= min(wanted, nearest[left].max())


def test_agreement_by_hand():
    # Ranks 2 1 4 3 5: squared differences add up to 4, 1 - 6 * 4 / 120 = 0.8; of ten pairs two are turned round, 0.6.
    found = agreement([1, 2, 3, 4, 5], [61, 60, 64, 63, 65])
    assert (found.spearman, found.kendall) == (pytest.approx(0.8), pytest.approx(0.6))
    # Ties have their mean rank: ranks 1.5 1.5 3 and 1 2 3, covariance 1.5, variances 1.5 and 2: sqrt(3) / 2.
    # Of three pairs one is tied: tau-b = 2 / sqrt(2 * 3).
    found = agreement([7, 7, 9], [1, 2, 3])
    assert (found.spearman, found.kendall) == (pytest.approx(3**0.5 / 2), pytest.approx(2 / 6**0.5))
    for a, b in (([1, 2], [1, 2]), ([5, 5, 5], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([], [])):
        assert math.isnan(agreement(a, b).spearman)
        assert math.isnan(agreement(a, b).kendall)


def test_rank_correlations_by_epoch():
    curves = [[61, 1, 1], [60, 2, 2], [64, 2, 3], [63, 2, 4], [65, 2, 5], [], [70, 90]]
    first, second, last = rank_correlations(curves)  # the diverged and the failed one are left out
    assert (first.spearman, first.kendall) == (pytest.approx(0.8), pytest.approx(0.6))
    assert second.spearman == pytest.approx(agreement([1, 2, 2, 2, 2], [1, 2, 3, 4, 5]).spearman)
    assert (last.spearman, last.kendall) == (pytest.approx(1), pytest.approx(1))
    assert rank_correlations([]) == []
    assert rank_correlations([[], []]) == []
    assert all(math.isnan(c.spearman) for c in rank_correlations([[1, 2], [2, 1]]))


def test_a_shorter_curve_does_not_stop_trainings():
    """All that is left of a batch are trainings cut off half-way: nothing is known of the last epoch."""
    assert early_stopping_epoch([[1, 2], [2, 3], [3, 4]], 0.92, 4) == 4


def test_noise_ceiling_by_hand():
    # Seeds 1 and 2: 0.8 and 0.6, as above; 1 and 3 agree; 2 and 3 as 1 and 2.
    one, two, three = [1, 2, 3, 4, 5], [61, 60, 64, 63, 65], [11, 12, 13, 14, 15]
    found = noise_ceiling([one, two])
    assert (found.spearman, found.kendall) == (pytest.approx(0.8), pytest.approx(0.6))
    found = noise_ceiling([one, two, three])
    assert (found.spearman, found.kendall) == (pytest.approx((0.8 + 1 + 0.8) / 3), pytest.approx((0.6 + 1 + 0.6) / 3))
    # What only one seed has is left out of that pair: 1 2 3 and 61 60 64, rank correlation 0.5.
    assert noise_ceiling([[1, 2, 3, NAN], [61, 60, 64, 99]]).spearman == pytest.approx(0.5)
    assert noise_ceiling([[61, 60, 64, 99], [1, 2, 3, NAN]]).spearman == pytest.approx(0.5)


@pytest.mark.parametrize(
    "table", [[[1, 2, 3]], [[1, 2], [2, 3]], [[1, 2, NAN], [1, NAN, 3]], [[5, 5, 5], [1, 2, 3]], []]
)
def test_noise_ceiling_is_unknown(table):
    found = noise_ceiling(table)
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall)
