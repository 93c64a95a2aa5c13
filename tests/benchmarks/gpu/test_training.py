"""A rehearsal runs every case, and its tables say what limits a training on files."""

import pytest

from fbnetv3.benchmarks.gpu import training as benchmark
from fbnetv3.benchmarks.gpu.training import BENCHMARK, FULL, TINY
from fbnetv3.benchmarks.result import Result, load_result


def test_a_rehearsal_runs_every_case(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "a.json", quick=True, seconds=500, device="cpu")
    assert load_result("a", tmp_path) == result
    assert result.values["failed"] == {}
    cases = result.values["cases"]
    assert list(cases) == ["synthetic", "reading 1", "photos 1", "synthetic compiled"]
    assert list(cases["synthetic"]["loops"]) == ["ours", "timm", "bare"]
    assert set(cases["photos 1"]["ours_over"]) == {"timm"}
    for case in (cases["synthetic"], cases["photos 1"]):
        for loop in case["loops"].values():
            assert loop["images_per_second"] == pytest.approx(1e3 * TINY.batch / loop["ms_per_step"], rel=1e-2)
    assert min(cases["reading 1"]["images_per_second"].values()) > 0
    assert "{" not in result.method
    assert list(BENCHMARK.all_tables(result)) == ["loops", "what a step takes", "reading JPEG files", "machine"]


@pytest.mark.parametrize(
    ("reading", "words"), [(500.0, "reading (500 images/s)"), (3000.0, "training (2,000 images/s)")]
)
def test_what_limits_a_training_on_files(reading, words):
    row = {"workers": 8, "decoding_alone": 100.0, "kilobytes": 80.0}
    loop = {"images_per_second": 2000.0, "ms_per_step": 1.0, "memory": 2**31, "busy": 0.9, "cpu": 1.0}
    values = {
        "cases": {
            "synthetic": {"loops": {"ours": loop}, "ours_over": {"timm": {"ratio": 1.0, "low": 0.9, "high": 1.1}}},
            "reading 8": row | {"images_per_second": {"ours": reading, "timm": 1.0}},
        },
        "failed": {},
        "not_reached": [],
    }
    tables = benchmark.tables(Result("2026-01-01", "c", "m", {"card": "some"}, values))
    assert tables["reading JPEG files"].rows[0][-1] == words
    assert tables["what a step takes"].rows == (("synthetic", "ours", "1.0", "2.00", "90%", "100%"),)


@pytest.mark.parametrize(("high", "words"), [(1.2, "1.10 [1.00, 1.20]"), (1.0, "1.10 (one epoch)")])
def test_one_epoch_has_no_interval(high, words):
    loop = {"images_per_second": 2000.0, "ms_per_step": 1.0, "memory": 0, "busy": None, "cpu": 1.0}
    ratio = {"ratio": 1.1, "low": 1.0, "high": high}
    cases = {"photos 8": {"loops": {"ours": loop, "timm": loop}, "ours_over": {"timm": ratio}}}
    values = {"cases": cases, "failed": {}, "not_reached": []}
    loops = benchmark.tables(Result("2026-01-01", "c", "m", {"card": "some"}, values))["loops"]
    assert loops.rows == (("photos 8", "2,000", "2,000", "-", words),)


def test_the_files_of_the_full_run_are_whole_batches_for_every_worker():
    assert FULL.files % (FULL.batch * max(FULL.workers)) == 0
