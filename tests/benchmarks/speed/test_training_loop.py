"""The loops that are compared do the same work, and the committed file is of this benchmark."""

import dataclasses

import pytest
import torch

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import loops
from fbnetv3.benchmarks.speed import training_loop as benchmark
from fbnetv3.benchmarks.speed.training_loop import BENCHMARK

SHORT = dataclasses.replace(loops.CASES["small"], batch=8, rounds=4)


def test_a_rehearsal_proves_equal_work_and_writes_a_complete_result(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "CASES", {"small": SHORT})
    result = BENCHMARK.run(write_to=tmp_path / "speed.json", rounds=5, networks=("small",))
    assert load_result("speed", tmp_path) == result
    assert result.command == "fbnetv3 benchmark loop-speed --rounds 5 --networks small"
    row = result.values["small"]
    assert row["rounds"] == 3
    assert row["ours_equals_by_hand"] is True
    assert row["timm_difference"] < 1e-3
    assert set(row["ms_per_step"]) == {"ours", "by_hand", "timm", "bare"}
    assert set(result.values["targets"]) == {"small_ours_over_timm", "small_overhead"}


def test_a_loop_that_does_other_work_is_noticed(monkeypatch):
    def later(case):  # the same loop, one draw of random numbers ahead
        loop = loops.by_hand(case)
        return dataclasses.replace(loop, epoch=lambda number, rng: (rng.random(), loop.epoch(number, rng))[1])

    monkeypatch.setattr(benchmark, "LOOPS", loops.LOOPS | {"by_hand": later})
    monkeypatch.setattr(benchmark, "SAME", {"timm_difference": 1e9, "loss_difference": 1e9})
    with pytest.raises(RuntimeError, match="end with different weights"):
        benchmark.run_case(SHORT)


def test_timms_loop_is_held_to_the_one_by_hand(monkeypatch):
    def moved(case):
        loop = loops.timm_loop(case)
        with torch.no_grad():
            next(loop.model.parameters()).add_(0.1)
        return loop

    monkeypatch.setattr(benchmark, "LOOPS", loops.LOOPS | {"timm": moved})
    with pytest.raises(RuntimeError, match="timm's loop does not train as by_hand does"):
        benchmark.run_case(SHORT)


def test_a_watch_keeps_every_turn():
    watch = benchmark.Watch()
    for _ in range(2):
        watch.start()
        watch.stop()
    assert len(watch.wall) == len(watch.cpu) == 2
    assert min(*watch.wall, *watch.cpu) >= 0


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("loop_speed")
    assert result.command == "fbnetv3 benchmark loop-speed"
    assert result.method == benchmark.METHOD
    rows = benchmark.case_values(result.values)
    assert list(rows) == list(benchmark.CASES)
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
