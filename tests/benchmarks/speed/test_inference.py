"""The speed benchmark: its arithmetic, and a rehearsal of the whole (slow)."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from fbnetv3.benchmarks.ratio import fastest, speed_ratio
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed import inference as benchmark
from fbnetv3.benchmarks.speed import inference_paths as paths


def test_a_ratio_is_one_of_medians():
    ratio = speed_ratio([2.0, 4.0, 100.0], [1.0, 1.0, 2.0])
    assert ratio.ratio == 4.0
    assert ratio.low <= 4.0 <= ratio.high


def test_an_interval_covers_the_truth_and_shrinks_with_rounds():
    rng = np.random.default_rng(0)
    covered, widths = 0, {20: [], 200: []}
    for _ in range(100):
        for rounds in widths:
            load = rng.lognormal(0, 0.1, rounds)  # met by both
            ratio = speed_ratio(3 * load * rng.lognormal(0, 0.05, rounds), load * rng.lognormal(0, 0.05, rounds))
            widths[rounds].append(ratio.high - ratio.low)
            covered += rounds == 200 and ratio.low <= 3.0 <= ratio.high
    assert 88 <= covered <= 100
    assert np.mean(widths[200]) < 0.5 * np.mean(widths[20])


def test_the_fastest_has_the_smallest_median():
    times = {"a": [1.0, 9.0, 9.0], "b": [2.0, 2.0, 2.0], "c": [1.0, 1.0, 1.0]}
    assert fastest(times, ["a", "b"]) == "b"
    assert fastest(times, list(times)) == "c"


def values(ratio=2.5, over_peer=1.0, int8=1.5, imports=1.02, build=0.9):
    best = {"path": "fused", "peer": "timm_openvino", "product": "matmul_torch"}
    interval = {"low": 0.5, "high": 5.0}
    row = {"fused": {"ms": 1.0, "ratio": ratio, **interval}, "eager": {"ms": 2.0, "ratio": 1.0, **interval}}
    row |= {"int8": {"ms": 0.5, "ratio": 9.0, **interval}, "peak_share": 0.5}
    row["best"] = best | {"over_peer": {"ratio": over_peer}, "int8_over_best": {"ratio": int8}}
    start = {"import_over_torch": {"ratio": imports}, "build_over_timm": {"ratio": build}}
    return {"threads_1": {"batch_8": row}, "start": start, "int8_accuracy": {}}


def test_targets_are_computed():
    met = benchmark.targets(values())
    assert {name: row["met"] for name, row in met.items()} == {
        "import_over_torch": True,
        "build_over_timm": True,
        "eager_batch_8": True,
        "best_batch_8": True,
        "best_over_peer_batch_8": True,
        "int8_over_best_batch_8": True,
    }
    assert met["best_batch_8"] == {"value": 2.5, "at_least": 2.3, "met": True}
    missed = benchmark.targets(values(ratio=2.29, over_peer=0.969, int8=1.0, imports=1.15, build=1.001))
    assert [name for name, row in missed.items() if row["met"]] == ["eager_batch_8"]


def test_the_table_shows_every_path_and_what_is_missed():
    shown = values(ratio=2.0)
    shown["targets"] = benchmark.targets(shown)
    text = io.StringIO()
    benchmark.print_tables(Console(file=text, width=120), shown)
    for part in ("threads 1 batch 8", "2.00 [0.50, 5.00]", "int8", "peak 0.50", "at least 2.3", "NO"):
        assert part in text.getvalue(), part


def test_another_function_is_refused():
    with pytest.raises(RuntimeError, match=r"path: logits differ from timm's by 1\.0e-01 of the largest"):
        paths.check_same(torch.tensor([10.0]), torch.tensor([9.0]), "path")


def test_timms_network_gets_our_weights():
    ours, theirs = paths.same_networks("fbnetv3_d", 96)
    assert type(ours) is not type(theirs)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        paths.check_same(theirs(x), ours(x), "ours")
        nn.init.zeros_(theirs.conv_head.weight)
        with pytest.raises(RuntimeError, match="differ"):
            paths.check_same(theirs(x), ours(x), "ours")


def test_multiply_adds_of_a_product_are_counted_once():
    with_products = paths.matrix_products()
    assert set(with_products) == {"matmul_torch", "matmul_openvino"}
    assert with_products["matmul_torch"]().shape == (paths.MATRIX, paths.MATRIX)


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("inference")
    assert result.command.startswith("fbnetv3 benchmark inference")
    assert result.method == benchmark.METHOD
    assert "cpu" in result.versions
    assert result.values["targets"] == benchmark.targets(result.values)


@pytest.mark.slow
def test_a_rehearsal_writes_a_whole_result(tmp_path, capsys):
    benchmark.main(["--quick", "--out", str(tmp_path / "speed.json"), "--rounds", "2"])
    result = load_result("speed", tmp_path)
    assert result.command == "fbnetv3 benchmark inference --quick --rounds 2"
    row = result.values["threads_1"]["batch_1"]
    assert {"timm_eager", "matmul_torch", "matmul_openvino", *benchmark.QUICK.paths} < set(row)
    assert row["timm_eager"]["ratio"] == 1.0
    for name in benchmark.QUICK.paths:
        assert row[name]["ms"] > 0
        assert row[name]["low"] <= row[name]["ratio"] <= row[name]["high"]
    assert 0 < row["peak_share"] < 1
    assert 0 <= result.number("int8_accuracy.mean.int8") <= 100
    assert json.dumps(result.values["targets"])
    assert "timm_openvino" in capsys.readouterr().out
