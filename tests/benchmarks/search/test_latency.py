"""The benchmark of the latency table: its arithmetic, a rehearsal, and the committed file."""

import inspect

import numpy as np
import pytest

from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.benchmarks.search import latency as benchmark
from fbnetv3.benchmarks.search.latency import BENCHMARK


def test_agreement_by_hand():
    found = benchmark.agreement(np.array([1.0, 2.0, 4.5]), np.array([2.0, 4.0, 6.0]), np.array([3, 2, 1]))
    bias = (0.5 + 0.5 + 0.75) / 3
    assert found == {
        "rank_correlation": 1.0,
        "rank_correlation_flops": -1.0,
        "bias": pytest.approx(bias, abs=1e-4),
        "error": pytest.approx(1 - bias, abs=1e-4),
        "error_scaled": pytest.approx((2 * (1 - 0.5 / bias) + 0.75 / bias - 1) / 3, abs=1e-4),
    }


def test_a_rehearsal_writes_a_complete_result(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "latency.json", quick=True, networks=(("micro", 3),))
    assert load_result("latency", tmp_path) == result
    assert result.command == "fbnetv3 benchmark latency --quick"
    row = result.values["micro"]
    assert row["pieces_measured"] == row["pieces_of_the_space"] == 286
    assert len(row["milliseconds"]["predicted"]) == len(row["milliseconds"]["measured"]) == 3


def test_the_time_for_all_blocks_is_extrapolated():
    values = load_result("latency").values
    values["released"] |= {"seconds": 2.0, "pieces_measured": 10, "pieces_of_the_space": 1500, "bias": 1.25}
    (table,) = benchmark.tables(Result("2026-01-01", "c", "m", {"v": "1"}, values)).values()
    assert table.rows[1][0] == "6 of `released`"
    assert table.rows[1][3] == "1.25"
    assert table.rows[1][5:] == ("1,500", "300 s")


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("latency")
    assert result.command == "fbnetv3 benchmark latency"
    assert result.method == benchmark.METHOD
    assert result.values["micro"]["networks"] >= 20
    for name, networks in inspect.signature(benchmark.measure).parameters["networks"].default:
        row = result.values[name]
        assert row["networks"] == networks
        ms = {key: np.array(series) for key, series in row["milliseconds"].items()}
        ratio = ms["predicted"] / ms["measured"]
        assert row["bias"] == pytest.approx(ratio.mean(), abs=1e-3)
        assert row["error"] == pytest.approx(np.abs(ratio - 1).mean(), abs=1e-3)
