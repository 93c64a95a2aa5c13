"""Batches of stage 2: promising candidates, and not near-duplicates of one of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnetv3.errors import InputError
from fbnetv3.search.nars.acquisition import (
    expected_improvement,
    first_batch,
    improving_batch,
    promising_batch,
    warm_batch,
)

MEMBERS = np.array([[9.0, 8, 7, 1, 0], [0.0, 1, 2, 3, 9]])


def test_the_first_batch_is_random_and_seeded():
    assert np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 3))
    assert len(set(first_batch(100, 8, 3))) == 8
    assert not np.array_equal(first_batch(100, 8, 3), first_batch(100, 8, 4))


def test_members_choose_their_favourites_in_turn():
    assert promising_batch(MEMBERS, np.zeros(5, bool), 3).tolist() == [0, 4, 1]


def test_tried_candidates_are_not_chosen_again():
    assert promising_batch(MEMBERS, np.array([True, False, False, False, True]), 3).tolist() == [1, 3, 2]


def test_members_that_agree_choose_the_top():
    same = np.repeat(np.array([[1.0, 5, 3, 4, 2]]), 3, axis=0)
    assert promising_batch(same, np.zeros(5, bool), 3).tolist() == [1, 3, 2]


def test_too_few_candidates_are_refused():
    with pytest.raises(InputError, match="2 candidates left, a batch needs 3; give a larger pool"):
        promising_batch(MEMBERS, np.array([True, True, True, False, False]), 3)


def distances(rows):
    """Coordinates in which every two rows differ."""
    return (rows[:, None] != rows[None]).sum(axis=2)[np.triu_indices(len(rows), 1)]


@pytest.fixture(scope="module")
def crowded():
    """Index rows and predictions: one row and all that differ from it in one coordinate have the highest scores."""
    rng = np.random.default_rng(0)
    best = np.zeros(8, np.int64)
    copies = np.repeat(best[None], 24, axis=0)
    copies[np.arange(24), np.arange(24) % 8] = np.arange(24) // 8 + 1
    index = np.concatenate([best[None], copies, rng.integers(4, 20, (200, 8))])
    return index, np.linspace(90, 60, len(index))[None]


def test_without_index_rows_near_duplicates_fill_a_batch(crowded):
    index, members = crowded
    assert promising_batch(members, np.zeros(len(index), bool), 10).tolist() == list(range(10))


@pytest.mark.parametrize("distance", [2, 3, 5])
def test_with_index_rows_a_batch_holds_no_near_duplicates(crowded, distance):
    index, members = crowded
    batch = promising_batch(members, np.zeros(len(index), bool), 10, index, distance)
    assert batch[0] == 0  # the favourite itself stays
    assert distances(index[batch]).min() >= distance
    assert (np.diff(batch) > 0).all()  # still by predicted accuracy


def test_by_default_rows_of_a_batch_differ_in_two_coordinates(crowded):
    index, members = crowded
    assert distances(index[promising_batch(members, np.zeros(len(index), bool), 10, index)]).min() >= 2


def test_by_default_rows_with_many_coordinates_differ_in_an_eighth_of_them():
    index = np.zeros((4, 32), np.int64)
    index[1, :3], index[2, :4], index[3, 4:8] = 1, 1, 1
    members = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert promising_batch(members, np.zeros(4, bool), 3, index).tolist() == [0, 2, 3]


def test_the_distance_gives_way_when_the_pool_has_no_more():
    # 0000 and 1111 are 4 apart; then 1100 is 2 from both, at most; 0001 is 1 from 0000.
    index = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    members = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert promising_batch(members, np.zeros(4, bool), 4, index, 4).tolist() == [0, 2, 3, 1]
    assert promising_batch(members, np.zeros(4, bool), 2, index, 1).tolist() == [0, 1]


@settings(deadline=None)  # a busy machine is no failure
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


def test_half_of_a_warm_batch_is_random_and_half_the_favourites_of_the_sources():
    pool = np.arange(16)[:, None] * np.ones((1, 2), int)  # all rows differ in both coordinates
    sources = np.stack([np.arange(16.0), -np.arange(16.0)])
    drawn = np.array([7, 15, 3, 5, 6])
    assert warm_batch(drawn, sources, pool).tolist() == [7, 15, 3, 14, 0]  # 15 is in the random half


def test_a_warm_batch_of_one_is_random():
    batch = warm_batch(np.array([3]), np.ones((1, 16)), np.zeros((16, 2), int))
    assert np.arange(16)[batch].tolist() == [3]


def test_a_batch_improves_by_hand():
    """Two draws of four candidates. The known one has 1 in both.

    Alone, candidate 0 improves by 2 in half of the draws, as candidates 1 and 2 do by 2 and 1.5. Once 0 is chosen, 1 adds
    nothing, because it is better in the same draw; 2 adds 0.75 in the mean.
    """
    draws = np.array([[3.0, 3.0, 0.0, 1.5], [0.0, 0.0, 2.5, 1.0]])
    known = np.array([[1.0], [1.0]])
    assert improving_batch(draws, known, 1).tolist() == [0]
    assert improving_batch(draws, known, 2).tolist() == [0, 2]
    # Nothing adds any more: the highest means come next, and no candidate twice.
    assert improving_batch(draws, known, 4).tolist() == [0, 2, 1, 3]


def test_what_is_known_better_in_a_draw_leaves_nothing_to_improve():
    draws = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert improving_batch(draws, np.array([[3.0, 0.0], [0.0, 0.0]]), 1).tolist() == [1]


def test_expected_improvement_is_that_of_a_normal_distribution():
    drawn = 2.0 + 0.5 * np.random.default_rng(0).standard_normal(400_000)
    expected = [np.maximum(drawn - best, 0.0).mean() for best in (1.5, 2.0, 3.0)]
    found = [expected_improvement(np.array([2.0]), np.array([0.5]), best)[0] for best in (1.5, 2.0, 3.0)]
    assert found == pytest.approx(expected, abs=2e-3)
    assert expected_improvement(np.array([2.0, 1.0]), np.zeros(2), 1.5).tolist() == pytest.approx([0.5, 0.0])
