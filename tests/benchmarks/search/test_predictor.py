"""The benchmark of the predictor: its arithmetic, a rehearsal on a made-up table, and the committed file."""

import json

import pytest

from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.benchmarks.search import predictor as benchmark
from fbnetv3.benchmarks.search.predictor import BENCHMARK
from fbnetv3.benchmarks.search.predictor_tables import invented
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings


def test_samples_needed_by_hand():
    curve = {"24": {"mse": 4.0}, "48": {"mse": 2.0}, "96": {"mse": 3.0}, "192": {"mse": 0.5}}
    assert benchmark.samples_needed(curve, 4.0) == (24.0, False)
    assert benchmark.samples_needed(curve, 5.0) == (24.0, False)
    assert benchmark.samples_needed(curve, 0.4) == (192.0, True)
    samples, bound = benchmark.samples_needed(curve, 2.0)
    assert samples == pytest.approx(48.0)
    assert not bound
    # A rival that got worse with more samples is not held to it: halfway in logarithms between 96 (as good as 48) and 192.
    assert benchmark.samples_needed(curve, 1.0)[0] == pytest.approx(96 * 2**0.5)


def test_factors_by_hand():
    found = {
        "default": {"24": {"mse": 2.0}, "48": {"mse": 1.0}},
        "rival": {"24": {"mse": 4.0}, "48": {"mse": 2.0}, "96": {"mse": 1.0}},
    }
    # The default has no error at 96 samples to compare with.
    found["default"]["96"] = {"mse": 1.0}
    against = benchmark.factors(found)
    assert against["rival"]["24"] == {"factor": 2.0, "factor_is_bound": False, "mse_ratio": 2.0}
    assert against["rival"]["48"]["factor"] == 2.0
    assert list(against) == ["rival"]


def test_a_rehearsal_of_one_table():
    table = invented("mnasnet", 7, rich=False, n=600)
    quick = PredictorSettings(members=1, pretrain_epochs=3, width=16, layers=2)
    stated = benchmark.with_statistics(table)
    assert stated.x.shape[1] == stated.arch_columns.size == table.x.shape[1] + 2
    methods = {
        "default": (benchmark.pretrained(table, quick, 480), table),
        "statistics": (AccuracyPredictor(stated.arch_columns, seed=0, settings=quick), stated),
    }
    found = benchmark.fit_all(table, methods, (24, 48), (0, 1))
    assert set(found) == {"default", "statistics"}
    for rows in found.values():
        assert list(rows) == ["24", "48"]
        assert rows["48"]["mse"] > 0
        assert -1 <= rows["48"]["tau"] <= 1
    assert set(benchmark.factors(found)["statistics"]) == {"24", "48"}


def test_a_measured_table_is_not_measured_again(tmp_path):
    (tmp_path / "useless.json").write_text("kept")
    benchmark.measure_table("useless", tmp_path / "absent.json", tmp_path, PredictorSettings())
    assert (tmp_path / "useless.json").read_text() == "kept"


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("predictor")
    assert result.method == benchmark.METHOD
    for name, table in result.values["tables"].items():
        assert table["against"] == json.loads(json.dumps(benchmark.factors(table["methods"]))), name
    assert {"default", *benchmark.RIVALS} == set(result.values["tables"]["nas_bench_macro"]["methods"])


def test_the_table_tells_bounds_from_factors():
    values = load_result("predictor").values
    against = values["tables"]["useless"]["against"]
    against["scratch"] = {"48": {"mse_ratio": 0.75}, "96": {"factor": 3.25, "factor_is_bound": True, "mse_ratio": 1.5}}
    against["statistics"]["96"] = {"factor": 1.5, "factor_is_bound": False, "mse_ratio": 1.0}
    values["proxy"]["flops_params"]["r2_flops"] = 0.5
    rivals, targets = BENCHMARK.all_tables(Result("2026-01-01", "c", "m", {"v": "1"}, values)).values()
    assert "| `useless` | > 3.2 | - | 1.5 | - | 0.75 |" in rivals.markdown()
    assert "| `proxy_r2_flops` | at least 0.998 | 0.5 | missed |" in targets.markdown()
