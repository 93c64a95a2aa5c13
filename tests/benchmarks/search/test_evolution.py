"""The benchmark of the evolution: its rivals, its targets, a rehearsal, and the committed file."""

import dataclasses

import numpy as np
import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import evolution as benchmark
from fbnetv3.benchmarks.search.evolution import BENCHMARK, LANDSCAPES, Plan
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.reader import load_space

MICRO = load_space("micro")


def test_random_search_scores_as_many_candidates_as_it_may():
    scored = []

    def score(index):
        scored.append(len(index))
        return index.sum(1).astype(float)

    constraints = ConstraintSet(MICRO, (Constraint("flops", 2.5e5),))
    best = benchmark.random_best(constraints, score, 20_000, 0)
    assert sum(scored) == 20_000
    assert best == benchmark.random_best(constraints, score, 20_000, 0) <= (MICRO.sizes - 1).sum()


def test_pymoo_keeps_the_budget():
    pytest.importorskip("pymoo", reason="pymoo is needed by this benchmark alone")
    rows = []
    constraints = ConstraintSet(MICRO, (Constraint("flops", 2.5e5),))

    def score(index):
        rows.append(index)
        return index.sum(1).astype(float)

    best = benchmark.pymoo_best(constraints, score, 400, 0)
    tried = np.concatenate(rows)
    assert best == tried[constraints.satisfied(tried)].sum(1).max()


def values(ours=80.0, gap=0.04, seconds=(1.0, 1.2), pymoo=(5.0, 6.0), found=9):
    row = {
        "gap": gap,
        "runs": {"ours": [ours, 80.1], "random": [79.0, 79.5]},
        "seconds": {"ours": list(seconds), "pymoo": list(pymoo)},
    }
    small = {"found": found, "seeds": 10}
    return {"ensemble": {"450M": row}, "oracle": {"450M": row}, "enumerated": small}


def test_targets_are_computed():
    met = benchmark.targets(values())
    assert {name: row.met for name, row in met.items()} == dict.fromkeys(
        ("seconds", "over_pymoo", "gap_ensemble", "gap_oracle", "over_random_25x", "optimum"), True
    )
    assert met["seconds"].value == 1.1
    assert met["over_pymoo"].value == pytest.approx(5.0)
    assert set(met["over_pymoo"].as_dict()) == {"ratio", "low", "high", "at_least", "met"}
    missed = benchmark.targets(values(ours=79.4, gap=0.06, seconds=(1.6, 1.6), found=8))
    assert not any(row.met for row in missed.values())
    without = values()
    del without["ensemble"]["450M"]["seconds"]["pymoo"]
    assert "over_pymoo" not in benchmark.targets(without)


def test_a_rehearsal_writes_a_complete_result(tmp_path):
    plan = dataclasses.replace(benchmark.QUICK, pool=128, settings=EvolutionSettings(evaluations=300))
    result = BENCHMARK.run(write_to=tmp_path / "evolution.json", plan=plan)
    assert load_result("evolution", tmp_path) == result
    row = result.values["ensemble"]["0.3M"]
    assert row["evaluations"] == 300
    assert row["best"] == max(max(values) for values in row["runs"].values())
    assert result.values["enumerated"]["seeds"] == 2
    (table,) = benchmark.tables(result).values()
    assert table.columns == ("mean gap on", "0.3M")


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("evolution")
    assert result.command == "fbnetv3 benchmark evolution"
    assert result.method == benchmark.METHOD
    for landscape in LANDSCAPES:
        assert list(result.values[landscape]) == ["450M", "550M", "650M", "750M"]
        for row in result.values[landscape].values():
            assert len(row["runs"]["ours"]) == Plan().seeds >= 10
            assert row["best"] == max(max(values) for values in row["runs"].values())
            assert row["gap"] == pytest.approx(row["best"] - np.mean(row["runs"]["ours"]), abs=2e-4)
            assert row["evaluations"] <= EvolutionSettings().evaluations
