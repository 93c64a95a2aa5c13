"""A rehearsal on few candidates, costs that are checked, and the committed file."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import costs as benchmark
from fbnetv3.benchmarks.speed.costs import BENCHMARK
from fbnetv3.complexity import Cost
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol


def check(values):
    labels = values["labels"]
    for name, speed in labels["architectures_per_second"].items():
        seconds = labels["seconds_per_architecture"][name]
        assert seconds["low"] <= seconds["median"] <= seconds["high"]
        assert speed == pytest.approx(1 / seconds["median"], rel=0.001)
    ratio = values["fvcore_over_statistics"]
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    medians = (
        values["fvcore"]["seconds_per_architecture"]["median"],
        labels["seconds_per_architecture"]["statistics"]["median"],
    )
    assert ratio["ratio"] == pytest.approx(medians[0] / medians[1], rel=0.001)
    stream = values["stream"]
    assert stream["kept"] <= stream["inside"] <= stream["draws"]


def test_the_committed_file_is_of_this_benchmark_and_meets_the_targets():
    result = load_result("cost_speed")
    assert result.command == "OMP_NUM_THREADS=1 fbnetv3 benchmark cost-speed"
    assert result.method == benchmark.METHOD
    check(result.values)
    targets = benchmark.targets(result.values)
    assert {name: (row.rule, row.limit) for name, row in targets.items()} == {
        "architectures_per_second": ("at_least", 1_000_000),
        "times_fvcore": ("at_least", 200_000),
        "pool_seconds": ("at_most", 0.2),
        "stream_seconds": ("at_most", 60),
        "memory_whole_over_tenth": ("at_most", 1.25),
    }
    assert all(row.met for row in targets.values())
    assert result.values["stream"]["kept"] == benchmark.KEEP
    assert result.values["stream"]["seconds"]["n"] == benchmark.STREAMS


def test_a_rehearsal_writes_a_complete_result(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = {"streams": 2, "rows": 200, "pool": 200, "keep": 100}
    result = BENCHMARK.run(write_to=tmp_path / "speed.json", rounds=1, draws=2000, **small)
    assert load_result("speed", tmp_path) == result
    assert result.command == "OMP_NUM_THREADS=1 fbnetv3 benchmark cost-speed --rounds 1 --draws 2000"
    check(result.values)
    assert result.values["stream"]["kept"] == 100
    assert result.values["labels"]["architectures_per_second"]["cost"] > 0
    (table,) = benchmark.tables(result).values()
    assert "2,000 candidates: screen, and score the best 100" in table.rows[-1][0]


def test_a_wrong_cost_stops_the_benchmark(monkeypatch):
    space = load_space("micro")
    row = sobol(space, 0, 0)[0]
    assert benchmark.count_built(space, row) > 0
    exact = NetworkSpace.cost
    monkeypatch.setattr(NetworkSpace, "cost", lambda self, index: Cost.times(exact(self, index), 2))
    with pytest.raises(RuntimeError, match="closed form"):
        benchmark.count_built(space, row)


def test_more_than_one_core_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(InputError, match="OMP_NUM_THREADS=1"):
        BENCHMARK.run(write_to=tmp_path / "speed.json")
