"""The benchmark of the latency table: its arithmetic, a rehearsal, and the committed file."""

import numpy as np
import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import latency as benchmark


def test_agreement_by_hand():
    found = benchmark.agreement(np.array([1.0, 2.0, 4.5]), np.array([2.0, 4.0, 6.0]), np.array([3.0, 2.0, 1.0]))
    bias = (0.5 + 0.5 + 0.75) / 3
    assert found == {
        "rank_correlation": 1.0,
        "rank_correlation_flops": -1.0,
        "bias": pytest.approx(bias, abs=1e-4),
        "error": pytest.approx(1 - bias, abs=1e-4),
        "error_scaled": pytest.approx((2 * (1 - 0.5 / bias) + 0.75 / bias - 1) / 3, abs=1e-4),
    }


def test_a_rehearsal_writes_a_whole_result(tmp_path):
    result = benchmark.main(["--quick", "--out", str(tmp_path / "latency.json")])
    assert load_result("latency", tmp_path) == result
    row = result.values["micro"]
    assert row["pieces_measured"] == row["pieces_of_the_space"] == 286
    assert len(row["milliseconds"]["predicted"]) == len(row["milliseconds"]["measured"]) == 5


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("latency")
    assert result.command == "fbnetv3 benchmark latency"
    assert result.method == benchmark.METHOD
    assert result.values["micro"]["networks"] >= 20
    for name, networks in benchmark.Plan().networks:
        row = result.values[name]
        assert row["networks"] == networks
        ms = {key: np.array(series) for key, series in row["milliseconds"].items()}
        ratio = ms["predicted"] / ms["measured"]
        assert row["bias"] == pytest.approx(ratio.mean(), abs=1e-3)
        assert row["error"] == pytest.approx(np.abs(ratio - 1).mean(), abs=1e-3)
