"""Candidates that were not proposed yet, near a given one; and tables in which there is hardly one."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.rivals import untried as module
from fbnetv3.search.rivals.untried import Untried, cannot_propose
from tests.search.rivals.made_up import grid_context

OUTSIDE = [4, 4, 0]  # has 160 FLOPs


@pytest.fixture
def untried(tmp_path):
    """All of a grid of 5 x 5 x 5, of which those of at most 130 FLOPs are feasible."""
    return Untried(grid_context(tmp_path, max_flops=130.0).constraints, np.random.default_rng(0))


def test_taken_and_infeasible_candidates_are_not_there(untried):
    assert untried.has([0, 0, 0])
    assert not untried.has(OUTSIDE)
    untried.take([0, 0, 0])
    assert not untried.has([0, 0, 0])


def test_a_near_candidate_differs_in_one_coordinate(untried):
    for _ in range(20):
        found = untried.near([1, 1, 1])
        assert (np.array(found) != 1).sum() == 1
        assert untried.has(found)


def test_every_coordinate_changes_equally_often(tmp_path):
    untried = Untried(grid_context(tmp_path, sizes=(2, 2, 20)).constraints, np.random.default_rng(0))
    changes = np.mean([np.array(untried.near([0, 0, 0])) != 0 for _ in range(300)], axis=0)
    np.testing.assert_allclose(changes, 1 / 3, atol=0.1)


def test_where_all_neighbours_were_taken_it_goes_further(tmp_path):
    """Only the opposite corner is left, which no single change reaches."""
    context = grid_context(tmp_path, sizes=(2, 2, 2))
    untried = Untried(context.constraints, np.random.default_rng(0))
    for row in context.space.table.tolist():
        if row != [1, 1, 1]:
            untried.take(row)
    assert untried.near([0, 0, 0]) == [1, 1, 1]
    untried.take([1, 1, 1])
    with pytest.raises(
        InputError, match="no new feasible candidate was found in 200 random walks; give fewer trainings"
    ):
        untried.near([0, 0, 0])


def test_an_infeasible_row_leads_to_a_feasible_one(untried):
    assert untried.has(untried.near(OUTSIDE))


def test_where_no_walk_finds_one_it_is_the_nearest_candidate(untried, monkeypatch):
    monkeypatch.setattr(module, "WALKS", 0)
    found = untried.near(OUTSIDE)
    assert untried.has(found)
    assert (np.array(found) != OUTSIDE).sum() == 1  # 100 + 10 a + 5 b FLOPs: of OUTSIDE, a may become 0 or 1


@pytest.mark.parametrize(("keep", "reason"), [(1.0, ""), (0.5, ""), (0.04, "the table has")])
def test_a_table_needs_neighbours(tmp_path, keep, reason):
    space = grid_context(tmp_path, sizes=(8, 8, 8), keep=keep).space
    assert cannot_propose(space)[:13] == reason
    assert (space.listed is None) == (keep == 1.0)


def test_the_share_of_neighbours_is_said(tmp_path):
    space = grid_context(tmp_path, sizes=(8, 8, 8), keep=0.04).space
    rows = space.table
    there = sum((np.abs(rows[:, None] - rows[None]) > 0).sum(axis=2).ravel() == 1)
    share = there / ((space.sizes - 1).sum() * len(rows))
    assert 0 < share < 0.1
    assert cannot_propose(space).startswith(f"the table has {share:.1%} of the pairs that differ from its rows in one")
