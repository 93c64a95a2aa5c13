"""The benchmark of the predictor, rehearsed on a made-up table, and the committed file."""

import json

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import predictor as benchmark
from fbnetv3.benchmarks.search.predictor_tables import invented, micro_trainings, nas_bench_macro, useless
from fbnetv3.search.predictor.model import AccuracyPredictor, PredictorSettings
from fbnetv3.training.loop import cpu_threads


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


def test_invented_tables_are_functions_of_their_draw():
    for geometry in ("mnasnet", "fbnet"):
        one, other = invented(geometry, 7, rich=False, n=300), invented(geometry, 8, rich=True, n=300)
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.labels, other.labels[:, :2])
        assert other.labels.shape[1] > 10
        assert not np.array_equal(one.y, other.y)
        assert np.array_equal(one.y, invented(geometry, 7, rich=True, n=300).y)
        assert one.x.min() == 0.0
        assert one.x.max() == 1.0
        assert 1.0 < one.y.std() < 4.5


def test_useless_statistics_are_the_same_numbers_elsewhere():
    table = invented("mnasnet", 7, rich=False, n=2000)
    changed = useless(table)
    assert np.array_equal(np.sort(table.labels, axis=0), np.sort(changed.labels, axis=0))
    assert abs(np.corrcoef(table.labels[:, 0], changed.labels[:, 0])[0, 1]) < 0.1
    assert np.array_equal(table.y, changed.y)


def test_the_table_of_own_trainings():
    table = micro_trainings()
    assert len(table.x) == len(table.y) == len(table.labels) >= 60
    assert not table.arch_columns.all()


def test_a_foreign_table_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"012": {"flops": 1}}')
    for name in ("other.json", "absent.json"):
        with pytest.raises(InputError, match="not NAS-Bench-Macro's table, or damaged"):
            nas_bench_macro(tmp_path / name)


def test_a_rehearsal_of_one_table():
    table = invented("mnasnet", 7, rich=False, n=600)
    quick = PredictorSettings(members=1, pretrain_epochs=3, width=16, layers=2)
    with cpu_threads(1):
        methods = {
            "default": (benchmark.pretrained(table, quick, 480), table),
            "statistics": (
                AccuracyPredictor(benchmark.with_statistics(table).arch_columns, seed=0, settings=quick),
                benchmark.with_statistics(table),
            ),
        }
        found = benchmark.measure(table, methods, (24, 48), (0, 1))
    assert set(found) == {"default", "statistics"}
    for rows in found.values():
        assert list(rows) == ["24", "48"]
        assert rows["48"]["mse"] > 0
        assert -1 <= rows["48"]["tau"] <= 1
    assert set(benchmark.factors(found)["statistics"]) == {"24", "48"}


def test_the_committed_file_is_of_this_benchmark():
    values = load_result(benchmark.NAME).values
    assert values["targets"] == benchmark.summary(values["tables"], values["proxy"])
    for name, table in values["tables"].items():
        assert table["against"] == json.loads(json.dumps(benchmark.factors(table["methods"]))), name
    assert {"default", "scratch", "statistics", "paper", "scratch_network"} == set(
        values["tables"]["nas_bench_macro"]["methods"]
    )


def test_figure_4_is_drawn_from_the_committed_file(tmp_path):
    pytest.importorskip("matplotlib")
    benchmark.plot(tmp_path / "figure4.png")
    assert (tmp_path / "figure4.png").read_bytes().startswith(b"\x89PNG")
