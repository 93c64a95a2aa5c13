"""Optuna's Gaussian process on feasible candidates alone."""

import numpy as np
import pytest

from fbnetv3.search.rivals.optuna_gp import GaussianProcess
from tests.search.rivals.made_up import grid_context, run

pytest.importorskip("optuna")


@pytest.mark.parametrize("batch", [1, 4])
def test_it_finds_the_best_within_the_budget(tmp_path, batch):
    context = grid_context(tmp_path, sizes=(6, 6, 6), max_flops=135.0)
    feasible = context.space.table[context.constraints.satisfied(context.space.table)]
    rival = GaussianProcess(context.constraints, 0)
    rows = run(rival, context, 20, batch)
    best = feasible[context.space.accuracy(feasible).argmax()].tolist()
    assert best in rows[10:].tolist()
    # No proposal was infeasible or known: nothing had to be moved.
    assert "FAIL" not in {trial.state.name for trial in rival.study.get_trials()}


def test_it_climbs_to_where_no_change_of_one_coordinate_gains(tmp_path):
    context = grid_context(tmp_path, sizes=(6, 6, 6), max_flops=135.0)
    rival = GaussianProcess(context.constraints, 0)
    rival._scores = lambda acquisition, rows: -np.abs(rows - [2, 1, 4]).sum(axis=1)
    row, score = rival._climb(None, np.array([0, 0, 0]), -7.0)
    assert (row.tolist(), score) == ([2, 1, 4], 0.0)
    rival.untried.take([2, 1, 4])
    row, score = rival._climb(None, np.array([0, 0, 0]), -7.0)
    assert score == -1.0
