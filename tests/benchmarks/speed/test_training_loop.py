"""The loops that are compared do the same work, and the committed file is of this benchmark."""

import dataclasses

import pytest
import torch

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import training_loop as benchmark

SHORT = {"small": dataclasses.replace(benchmark.CASES["small"], batch=8, rounds=5)}


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(benchmark, "CASES", SHORT)


def test_a_rehearsal_proves_equal_work_and_writes_a_whole_result(tmp_path, short, capsys):
    result = benchmark.main(["--rounds", "5", "--networks", "small", "--out", str(tmp_path / "speed.json")])
    assert load_result("speed", tmp_path) == result
    assert result.command.endswith("loop-speed --rounds 5")
    row = result.values["small"]
    assert row["ours_equals_by_hand"] is True
    assert row["timm_difference"] < 1e-3
    assert set(row["ms_per_step"]) == {"ours", "by_hand", "timm", "bare"}
    assert '"ours_over_timm"' in capsys.readouterr().out


def test_a_loop_that_does_other_work_is_noticed(short, monkeypatch):
    def later(case):  # the same loop, one epoch of random numbers ahead
        loop = benchmark.by_hand(case)
        return dataclasses.replace(loop, epoch=lambda number, rng: (rng.random(), loop.epoch(number, rng))[1])

    monkeypatch.setattr(benchmark, "LOOPS", benchmark.LOOPS | {"by_hand": later})
    monkeypatch.setattr(benchmark, "SAME", {"timm_difference": 1e9, "loss_difference": 1e9})
    with pytest.raises(RuntimeError, match="end with different weights"):
        benchmark.run(SHORT)


def test_timms_loop_is_held_to_the_one_by_hand(short, monkeypatch):
    def moved(case):
        loop = benchmark.timm_loop(case)
        with torch.no_grad():
            next(loop.model.parameters()).add_(0.1)
        return loop

    monkeypatch.setattr(benchmark, "LOOPS", benchmark.LOOPS | {"timm": moved})
    with pytest.raises(RuntimeError, match="timm's loop does not train as by_hand does"):
        benchmark.run(SHORT)


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("loop_speed")
    assert result.command == "fbnetv3 benchmark loop-speed"
    assert result.method == benchmark.METHOD
    rows = {name: result.values[name] for name in benchmark.CASES}
    assert result.values["targets"] == benchmark.targets(rows)
    for name, row in rows.items():
        assert row["rounds"] == benchmark.CASES[name].rounds - benchmark.WARMUP
        assert row["ours_equals_by_hand"] is True
        assert all(row[key] <= limit for key, limit in benchmark.SAME.items())
        ms = row["ms_per_step"]
        ratio = row["ours_over_timm"]
        assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
        assert ratio["ratio"] == pytest.approx(ms["timm"] / ms["ours"], rel=1e-3)
        share = row["overhead"]
        assert share["low"] <= share["share"] <= share["high"]
        assert share["share"] == pytest.approx(ms["ours"] / ms["by_hand"] - 1, abs=1e-3)
