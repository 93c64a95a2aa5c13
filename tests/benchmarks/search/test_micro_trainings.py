"""The table of real trainings: one training now, and the committed file."""

import numpy as np

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import micro_trainings as benchmark
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.trial import Outcome


def test_candidates_are_evaluated_with_seeds_of_their_own(monkeypatch):
    calls = []

    def evaluate(candidate, epochs, seed):
        calls.append((epochs, seed))
        return Outcome((20.0, 40.0, 60.0), "ok", 0.0) if seed % 2 else Outcome((), "diverged", 0.0)

    monkeypatch.setattr(Context, "evaluator", lambda self: evaluate)
    values = benchmark.measure(2).values
    assert calls == [(3, 10_000), (3, 10_001)]
    assert values["acc1"] == [10.0, 60.0]  # a training that diverged counts as chance of ten classes
    assert values["candidates"] == load_result("micro_trainings").values["candidates"][:2]


def test_the_committed_candidates_are_different_and_inside_the_window():
    result = load_result("micro_trainings")
    assert result.method == benchmark.METHOD
    rows, context = np.array(result.values["candidates"]), Context.of(load_preset("quickstart"))
    assert len(rows) == len(np.unique(rows, axis=0)) == len(result.values["acc1"]) == 61
    assert context.constraints.satisfied(rows).all()
    assert all(0 <= accuracy <= 100 for accuracy in result.values["acc1"])


def test_the_table_describes_the_accuracies():
    result = load_result("micro_trainings")
    (table,) = benchmark.tables(result).values()
    assert table.rows[0][0] == "61"
    assert table.rows[0][1] == f"{np.mean(result.values['acc1']):.2f}"
