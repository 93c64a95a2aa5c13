"""Optuna's samplers: what they are told, and how infeasible and known proposals cost no training."""

import itertools
import sys

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.rivals.optuna_rivals import cma_es, not_numeric, tpe
from fbnetv3.search.rivals.settings import STARTUP
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.reader import load_space
from tests.search.rivals.made_up import grid_context, run
from tests.search.tables import write

optuna = pytest.importorskip("optuna")


def test_tpe_is_told_of_results_and_of_infeasible_proposals(tmp_path):
    context = grid_context(tmp_path, max_flops=130.0)
    rival = tpe(context.constraints, 0)
    rows = run(rival, context, 24, 4)
    trials = rival.study.get_trials()
    told = [t for t in trials if t.state.name == "COMPLETE"]
    assert [[t.params[str(j)] for j in range(3)] for t in told] == rows.tolist()
    assert [t.value for t in told] == pytest.approx(context.space.accuracy(rows))
    refused = [[t.params[str(j)] for j in range(3)] for t in trials if t.state.name == "FAIL"]
    feasible = context.constraints.satisfied(np.array(refused))
    assert not feasible.all()  # some proposals were infeasible, and the others known
    assert all(row in rows.tolist() for row in np.array(refused)[feasible].tolist())


def test_running_trials_are_in_the_study(tmp_path):
    context = grid_context(tmp_path)
    rival = tpe(context.constraints, 0)
    rows = rival.ask(STARTUP)
    rival.tell(rows[:6], context.space.accuracy(rows[:6]))
    rival.ask(2)
    states = [t.state.name for t in rival.study.get_trials()]
    assert states.count("COMPLETE") == 6
    assert states.count("RUNNING") == STARTUP - 6 + 2


@pytest.mark.parametrize("make", [tpe, cma_es])
def test_where_there_is_no_new_proposal_the_last_one_is_moved(tmp_path, make):
    context = grid_context(tmp_path, max_flops=130.0)
    rival = make(context.constraints, 0)
    rival.asks = 1
    rows = run(rival, context, 30, 1)
    trials = rival.study.get_trials()
    # A failed trial is the proposal, and the trial after it the candidate that it was moved to.
    moved = [
        sum(a.params[name] != b.params[name] for name in a.params)
        for a, b in itertools.pairwise(trials)
        if a.state.name == "FAIL"
    ]
    assert moved.count(1) > len(moved) / 2 > 1
    assert len(np.unique(rows, axis=0)) == 30


def test_a_coordinate_with_one_value_is_not_searched(tmp_path):
    context = grid_context(tmp_path, sizes=(5, 1, 6))
    rows = run(tpe(context.constraints, 0), context, 16, 4)
    assert set(rows[:, 1]) == {0}


def test_choices_have_no_order_for_optuna_unless_there_are_two(tmp_path):
    space = load_space("micro")
    found = tpe(ConstraintSet(space), 0).distributions
    kinds = {space.coordinates[int(name)].name: type(d).__name__ for name, d in found.items()}
    for c in space.coordinates:
        numbers = c.ordered or len(c.values) == 2
        assert kinds.get(c.name, "") in ("", "IntDistribution" if numbers else "CategoricalDistribution")


def test_cma_es_needs_numbers(tmp_path):
    lines = [f"{k},{i},100,10,50" for i in range(20) for k in ("a", "b", "c")]
    space = load_space(write(tmp_path / "t.csv", lines, "arch.op,recipe.lr,label.flops,label.params,acc1"))
    assert not_numeric(space) == "op is a choice of three or more values, and CMA-ES needs numbers"
    with pytest.raises(InputError, match=r"op is a choice .*; search it with another method"):
        cma_es(ConstraintSet(space), 0)
    assert not_numeric(grid_context(tmp_path).space) == ""


def test_cma_es_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(InputError, match=r"the package cmaes is missing: pip install 'fbnetv3\[compare\]'"):
        cma_es(grid_context(tmp_path).constraints, 0)
