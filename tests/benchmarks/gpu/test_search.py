"""The benchmark of searches on a GPU: its tables, and a rehearsal."""

import pytest

from fbnetv3.benchmarks.gpu.search import BENCHMARK, processes_of, tables
from fbnetv3.benchmarks.gpu.trainings import TrainingEvaluator
from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.search.execution import cards
from fbnetv3.search.execution.processes import ProcessPool

RATES = {
    f"{n} side by side": {"trials": n, "epochs": 2, "seconds": 2.0 * n, "trainings_a_minute": 30.0} for n in (1, 2)
}
ROW = {"trainings": 50, "epochs_of_a_trial": 5, "seconds": 60.0, "trainings_a_minute": 50.0}
ROW |= {"val_acc1": 61.25, "flops": 41_000_000}
VALUES = {"failed": {}, "not_reached": [], "seconds": 160.0}


def result_of(cases):
    return Result("2026-01-01", "command", "method", {"python": "3.11"}, VALUES | {"cases": cases})


def test_tables():
    again = {"epochs": 10, "nars": 88.5, "random": 87.25}
    rates, searches, *_ = tables(result_of(RATES | {"nars": ROW, "random": ROW, "retraining": again})).values()
    assert "epochs of each, at least" in searches.columns  # NARS trains its first round and its finalists longer
    assert rates.rows == (("1", "2", "2.0", "30.0"), ("2", "2", "4.0", "30.0"))
    assert searches.rows == (
        ("NARS", "60", "50", "5", "50.0", "61.25", "41.0", "88.50, 10 epochs"),
        ("random search", "60", "50", "5", "50.0", "61.25", "41.0", "87.25, 10 epochs"),
    )


def test_tables_of_a_run_that_ended_early():
    assert list(tables(result_of(RATES))) == ["trainings a minute", "machine"]
    assert tables(result_of(RATES | {"nars": ROW}))["searches"].rows[0][-1] == "not reached"


def test_the_processes_are_those_of_a_search(monkeypatch):
    # On a card, a search has so many trials on it; on the CPU, so many workers.
    monkeypatch.setattr(cards, "visible_cards", lambda: ["0", "1"])
    for device in ("cpu", "cuda:0"):
        with processes_of(TrainingEvaluator({}, device, "fp32"), 3, 60.0) as pool:
            assert isinstance(pool, ProcessPool)
            assert (len(pool._pools), pool.limit) == (3, 60.0)


@pytest.mark.slow
def test_a_rehearsal(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "found.json", quick=True, device="cpu", seconds=600)
    assert load_result("found", tmp_path) == result
    assert result.values["failed"] == {}
    assert set(result.values["cases"]) == {"1 side by side", "2 side by side", "nars", "random", "retraining"}
    assert result.values["cases"]["nars"]["trainings"] == 9
    assert (
        "recipe cifar10/smoke of 2 epochs on one training image in 4, measured on one validation image in 2"
        in result.method
    )
