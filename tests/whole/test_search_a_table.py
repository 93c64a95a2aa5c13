"""A search on a table of trainings: it finds what the table has, looks everything up, and trains nothing."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.algorithm import nars
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.runs.run import start
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger
from fbnetv3.training.engine import cpu_threads
from tests.search.tables import whole_grid


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_evolution_finds_the_best_feasible_row(tmp_path, keep):
    space = load_space(whole_grid(tmp_path / "grid.csv", (6, 6, 6), keep=keep))
    constraints = ConstraintSet(space, (Constraint("flops", max=140),))
    found = evolve(constraints, space.accuracy, space.table[:0], EvolutionSettings(), seed=0)
    assert constraints.satisfied(found.index).all()
    assert found.scores[0] == space.accuracy(space.table[constraints.satisfied(space.table)]).max()


def test_nars_finds_one_of_the_best_rows(tmp_path):
    config = load_preset("quickstart").replace(
        space=whole_grid(tmp_path / "grid.csv", (5, 5, 5), noise=0.2),
        data="none",
        recipe="none",
        constraint=Constraint("flops", max=150),
        pool=60,
        first=4,
        batch=4,
        rounds=3,
        finalists=3,
        predictor={"pretrain_epochs": 5},
    )
    context = Context.of(config)
    path = tmp_path / "ledger.jsonl"
    with (
        cpu_threads(1),
        Ledger.open(path, config.fingerprint) as ledger,
        InProcess(context.evaluator()) as executor,
    ):
        proposal = nars(context, BatchRunner(context, ledger, executor, silent))
        assert len(ledger.trials) == 15
        assert all(trial.flops <= 150 for trial in ledger.trials)
    accuracies = context.space.accuracy(context.space.table[context.constraints.satisfied(context.space.table)])
    assert context.space.accuracy(np.array([proposal.candidate]))[0] >= np.quantile(accuracies, 0.9)


def test_a_search_that_would_train_refuses_a_table(tmp_path):
    config = load_preset("quickstart").replace(space=whole_grid(tmp_path / "grid.csv"), pool=40)
    with pytest.raises(InputError, match=r"is a table: its candidates are no networks .* search compare --table"):
        start(config, tmp_path / "run", silent)
    assert not (tmp_path / "run").exists()
