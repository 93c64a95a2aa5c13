"""The benchmark of the guard, on a made-up table in the format of the real one, and the committed file."""

import json

import numpy as np
import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import finalists as benchmark
from fbnetv3.search.space.constraints import Limits
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.table import read_table


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
    limits = Limits(space, (Constraint("flops", max=3e7),))
    assert limits.allows(space.table).tolist() == (space.table.sum(1) <= 2).tolist()
    assert benchmark.best_of(limits, space.table, space.accuracy(space.table), space)[0].sum() == 2


def test_a_rehearsal_writes_a_whole_result(path, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PRETRAINING", 64)
    result = benchmark.main(["--quick", "--table", str(path), "--out", str(tmp_path / "finalists.json")])
    assert load_result("finalists", tmp_path) == result
    found = result.values["trials_12"]
    for budget in ("budget_0.5", "budget_1"):
        assert set(benchmark.ANSWERS) < set(found[budget])
        assert all(found[budget][name]["regret"] >= 0 for name in benchmark.ANSWERS)
        gain = found[budget]["gain_over_stage2"]
        assert gain["low"] <= gain["mean"] <= gain["high"]
    assert result.command == "fbnetv3 benchmark finalists --table table.json --quick"


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("finalists")
    assert result.command == "fbnetv3 benchmark finalists --table nas-bench-macro_cifar10.json"
    assert result.method == benchmark.METHOD
    assert result.values["finalists"] == benchmark.FINALISTS
    for name, plan in benchmark.PLANS.items():
        assert plan.seeds >= 10
        assert result.values[name]["seeds"] == plan.seeds
        for share in benchmark.SHARES:
            assert set(benchmark.ANSWERS) < set(result.values[name][f"budget_{share:g}"])
