"""The committed file is of this benchmark, and says itself which targets it meets."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import costs as benchmark
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import load_space


def check(values):
    assert values["targets"] == benchmark.targets(values)
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
    targets = result.values["targets"]
    assert {name: (row.get("at_least"), row.get("at_most")) for name, row in targets.items()} == {
        "architectures_per_second": (1_000_000, None),
        "times_fvcore": (200_000, None),
        "pool_seconds": (None, 0.2),
        "stream_seconds": (None, 60),
        "memory_whole_over_tenth": (None, 1.25),
    }
    assert all(row["met"] for row in targets.values())
    assert result.values["stream"]["kept"] == 100_000
    assert result.values["stream"]["seconds"]["n"] == benchmark.STREAMS


def test_a_rehearsal_writes_a_whole_result(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    measure = benchmark.measure
    monkeypatch.setattr(benchmark, "POOL", 500)
    monkeypatch.setattr(benchmark, "KEEP", 100)
    monkeypatch.setattr(benchmark, "measure", lambda rounds, draws: measure(rounds, 2, draws, rows=500))
    result = benchmark.main(["--rounds", "1", "--draws", "5000", "--out", str(tmp_path / "speed.json")])
    assert load_result("speed", tmp_path) == result
    assert result.command.endswith("cost-speed --rounds 1 --draws 5000")
    check(result.values)
    assert result.values["stream"]["kept"] == 100
    assert result.values["labels"]["architectures_per_second"]["cost"] > 0


def test_a_wrong_label_stops_the_benchmark(monkeypatch):
    space = load_space("micro")
    row = sobol(space, 0, 0)[0]
    assert benchmark.count_built(space, row) > 0
    monkeypatch.setattr(benchmark, "cost", lambda space, index, exact=benchmark.cost: exact(space, index).times(2))
    with pytest.raises(RuntimeError, match="closed form"):
        benchmark.count_built(space, row)


def test_more_than_one_core_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(InputError, match="OMP_NUM_THREADS=1"):
        benchmark.main(["--out", str(tmp_path / "speed.json")])
