"""What trained finalists gain, on a made-up table in the format of the real one, by hand, and in the committed file."""

import functools
import json

import numpy as np
import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import finalists as benchmark
from fbnetv3.benchmarks.search.finalists import BENCHMARK, Trainings
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.table_file import read_table


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A table in which accuracy grows with every digit, and so do FLOPs."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("table") / "table.json"
    data = {}
    for row in np.indices((3,) * 8).reshape(8, -1).T.tolist():
        acc = 85 + 0.4 * sum(row) + 0.1 * rng.normal(size=3)
        name = "".join(map(str, row))
        data[name] = {"test_acc": acc.tolist(), "flops": 10**7 * (1 + sum(row)), "params": 10**5 * (1 + row[0])}
    path.write_text(json.dumps(data))
    return path


def test_the_best_inside_a_budget(path):
    space = read_table(path)
    assert len(space.table) == 6561
    row = np.array([[0, 2, 0, 1, 2, 1, 0, 0]])
    assert space.label("flops", row).tolist() == [7e7]
    constraints = ConstraintSet(space, (Constraint("flops", max=3e7),))
    assert constraints.satisfied(space.table).tolist() == (space.table.sum(1) <= 2).tolist()
    assert benchmark.best_of(constraints, space.table, space.accuracy(space.table), space)[0].sum() == 2


def test_a_run_writes_a_complete_result(path, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PREDICTORS", dict.fromkeys(benchmark.PREDICTORS, benchmark.PREDICTORS["lone"]))
    monkeypatch.setattr(benchmark, "EvolutionSettings", functools.partial(EvolutionSettings, evaluations=300))
    short = {"trials_12": Trainings(2, 6, 2)}
    result = BENCHMARK.run(write_to=tmp_path / "finalists.json", table=path, trainings=short, pretraining=32)
    assert load_result("finalists", tmp_path) == result
    found = result.values["trials_12"]
    for budget in ("budget_0.5", "budget_1"):
        assert set(benchmark.ANSWERS) < set(found[budget])
        assert all(found[budget][name]["regret"] >= 0 for name in benchmark.ANSWERS)
        gain = found[budget]["gain_over_stage2"]
        assert gain["low"] <= gain["mean"] <= gain["high"]
    assert result.command == "fbnetv3 benchmark finalists --table table.json"
    (table,) = benchmark.tables(result).values()
    assert [row[0] for row in table.rows] == ["12 (2 seeds), 50% of the networks", "12 (2 seeds), all networks"]


def test_a_summary_by_hand():
    def answers(regret):
        return {"budget_1": {name: {"regret": regret + i} for i, name in enumerate(benchmark.ANSWERS)}}

    found = benchmark.summary([answers(0.0), answers(1.0)])["budget_1"]
    assert found["stage2"] == {"regret": 0.5, "regret_std": 0.5}
    place = benchmark.ANSWERS.index(benchmark.SEARCH)
    assert found["gain_over_stage2"] == {"mean": -place, "low": -place, "high": -place}


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("finalists")
    assert result.command == "fbnetv3 benchmark finalists --table nas-bench-macro_cifar10.json"
    assert result.method == benchmark.METHOD
    assert result.values["finalists"] == benchmark.FINALISTS
    for name, trainings in benchmark.TRAININGS.items():
        assert trainings.seeds >= 10
        assert result.values[name]["seeds"] == trainings.seeds
        for share in benchmark.SHARES:
            assert set(benchmark.ANSWERS) < set(result.values[name][f"budget_{share:g}"])
