"""The contract of a rival, which every one of them passes; and the names under which they are found."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.rivals.catalogue import RIVALS
from fbnetv3.search.rivals.random import Random
from tests.places import ROOT
from tests.search.rivals.made_up import grid_context, run

# A budget that 60% of the grid satisfy.
BUDGET = 130.0
MISSING = {
    name: [package for package in entry.packages if importlib.util.find_spec(package) is None]
    for name, entry in RIVALS.items()
}
LEARNING = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}"))
    for name, missing in MISSING.items()
]
every = pytest.mark.parametrize("name", ["random", *LEARNING])
learning = pytest.mark.parametrize("name", LEARNING)
batches = pytest.mark.parametrize("batch", [1, 4])


def make(name, context, batch=4):
    if name == "random":
        return Random(context.constraints, context.config.seed, 24, 24)
    return RIVALS[name].make(context, batch)


@every
@batches
def test_it_asks_for_different_feasible_candidates(tmp_path, name, batch):
    context = grid_context(tmp_path, max_flops=BUDGET)
    rows = run(make(name, context, batch), context, 24, batch)
    assert rows.shape == (24, 3)
    assert len(np.unique(rows, axis=0)) == 24
    assert context.constraints.satisfied(rows).all()
    assert not context.constraints.satisfied(context.space.table).all()


@every
def test_the_seed_and_the_results_decide(tmp_path, name):
    context, other = grid_context(tmp_path, max_flops=BUDGET), grid_context(tmp_path, max_flops=BUDGET, seed=1)
    rows = run(make(name, context), context, 24, 4)
    assert run(make(name, context), context, 24, 4).tolist() == rows.tolist()
    assert run(make(name, other), other, 24, 4).tolist() != rows.tolist()


@learning
def test_results_change_what_it_asks_for(tmp_path, name):
    context = grid_context(tmp_path)
    up, down = (
        run(make(name, context, 1), context, 24, 1, score=lambda rows, sign=sign: 50 + sign * rows.sum(axis=1))
        for sign in (1, -1)
    )
    assert up[-8:].sum() > down[-8:].sum() + 8


def test_random_search_ignores_results(tmp_path):
    context = grid_context(tmp_path)
    up, down = (run(make("random", context), context, 24, 4, score=lambda rows, s=s: s * rows[:, 0]) for s in (1, -1))
    assert up.tolist() == down.tolist()


@every
def test_results_may_be_late_and_in_any_order(tmp_path, name):
    context = grid_context(tmp_path, max_flops=BUDGET)
    rival = make(name, context)
    rows = [rival.ask(4) for _ in range(4)]
    for _ in range(2):
        late = rows.pop(-2)[::-1]
        rival.tell(late, context.space.accuracy(late))
        rows.append(rival.ask(4))
    asked = np.concatenate(rows)
    assert len(np.unique(asked, axis=0)) == 16
    assert context.constraints.satisfied(asked).all()


@every
def test_failed_trainings_teach_nothing_and_stop_nothing(tmp_path, name):
    context = grid_context(tmp_path)
    rows = run(make(name, context), context, 12, 4, score=lambda rows: np.full(len(rows), np.nan))
    assert len(np.unique(rows, axis=0)) == 12


@every
@batches
def test_it_finds_all_candidates_of_a_small_table_and_then_says_that_there_are_no_more(tmp_path, name, batch):
    context = grid_context(tmp_path, sizes=(2, 3, 4))
    rival = make(name, context, batch)
    rows = run(rival, context, 24, batch)
    assert len(np.unique(rows, axis=0)) == 24
    with pytest.raises(InputError, match=r"no new feasible candidate|0 candidates left"):
        rival.ask(1)


@learning
def test_a_result_is_told_once(tmp_path, name):
    rival = make(name, grid_context(tmp_path))
    rows = rival.ask(1)
    rival.tell(rows, np.array([50.0]))
    with pytest.raises(ValueError, match="is no candidate whose result is missing"):
        rival.tell(rows, np.array([50.0]))


@learning
def test_on_a_table_without_neighbours_it_says_that_it_cannot_propose(tmp_path, name):
    context = grid_context(tmp_path, sizes=(8, 8, 8), keep=0.05)
    assert "% of the pairs that differ from its rows in one coordinate" in RIVALS[name].unfit(context.space)
    with pytest.raises(
        InputError, match="at least 10% are needed to propose changed ones; search it with nars or random"
    ):
        make(name, context)


PROGRAM = """
import json, sys
from pathlib import Path
from fbnetv3.search.rivals.catalogue import RIVALS
from tests.search.rivals.made_up import grid_context, run
context = grid_context(Path(sys.argv[1]), max_flops=float(sys.argv[2]))
names = json.loads(sys.argv[3])
print(json.dumps([run(RIVALS[name].make(context, 4), context, 16, 4).tolist() for name in names]))
"""


def test_another_process_asks_for_the_same(tmp_path):
    names = [name for name, missing in MISSING.items() if not missing]
    context = grid_context(tmp_path, max_flops=BUDGET)
    here = [run(RIVALS[name].make(context, 4), context, 16, 4).tolist() for name in names]
    # Another order of sets and dicts of texts must not matter.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(BUDGET), json.dumps(names)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(found.stdout.splitlines()[-1]) == here
