"""Time and regret of an asynchronous search: by hand, on a made-up table, and in the committed file."""

import dataclasses
import functools

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import asynchronous as benchmark
from fbnetv3.benchmarks.search.asynchronous import BENCHMARK
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_archive import write_archive
from tests.search.tables import whole_grid


@pytest.fixture
def quick(monkeypatch):
    """Searches of few trainings have a small predictor and a short evolution."""
    config_of = benchmark.config_of

    def short(path):
        config = config_of(path)
        settings = dataclasses.replace(config.predictor, members=1, pretrain_epochs=1)
        evolution = EvolutionSettings(evaluations=100, restarts=0)
        return config.replace(evolution=evolution, predictor=settings, first=4, rounds=2, finalists=1)

    monkeypatch.setattr(benchmark, "config_of", short)


def test_lengths_have_a_mean_of_one_and_their_spread_and_depend_on_the_seed_alone():
    lengths = np.array([benchmark.length(Job(None, 1, seed)) for seed in range(4000)])
    assert lengths.mean() == pytest.approx(1.0, abs=0.03)
    assert np.log(lengths).std() == pytest.approx(benchmark.SPREAD, abs=0.02)
    assert benchmark.length(Job("another", 9, 5)) == lengths[5]


def test_gains_by_hand():
    batches, other = [{"time": 10.0, "regret": 2.0}, {"time": 12.0, "regret": 1.0}], {"time": 8.0, "regret": 1.5}
    found = benchmark.summary([{"batches": one, "asynchronous": other, "alone": one} for one in batches])
    assert found["batches"]["time"] == {"mean": 11.0, "by_seed": [10.0, 12.0]}
    assert (found["asynchronous"]["time"]["mean"], found["asynchronous"]["time"]["gain"]["mean"]) == (8.0, 3.0)
    assert found["asynchronous"]["regret"]["gain"]["mean"] == 0.0
    assert found["alone"]["regret"]["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    targets = benchmark.targets({"ways": found})
    assert [target.met for target in targets.values()] == [False, True]  # two seeds are too few to be sure


def test_a_run_writes_a_complete_result_and_is_continued(quick, tmp_path, monkeypatch):
    write_archive(load_space(whole_grid(tmp_path / "grid.csv", (5, 5, 5), noise=0.3)), tmp_path / "grid.npz")
    run = functools.partial(BENCHMARK.run, write_to=tmp_path / "asynchronous.json", out=tmp_path / "out", seeds=2)
    result = run(table=tmp_path / "grid.npz")
    assert load_result("asynchronous", tmp_path) == result
    assert (result.values["trainings"], result.values["workers"]) == (9, 4)
    ways = result.values["ways"]
    assert all(row["regret"]["mean"] >= 0 and len(row["time"]["by_seed"]) == 2 for row in ways.values())
    # One worker makes all trainings one after the other.
    assert ways["alone"]["time"]["mean"] > ways["batches"]["time"]["mean"] >= ways["asynchronous"]["time"]["mean"]
    assert len(BENCHMARK.all_tables(result)["time and regret"].rows) == 3
    monkeypatch.setattr(benchmark, "answer", None)  # what is there is not searched again
    assert run(table=tmp_path / "grid.npz").values == result.values
    (tmp_path / "other.npz").write_bytes((tmp_path / "grid.npz").read_bytes())
    with pytest.raises(InputError, match="is of another configuration; give another --out"):
        run(table=tmp_path / "other.npz")


def test_the_committed_file_is_of_this_benchmark():
    values = load_result("asynchronous").values
    assert (values["workers"], values["spread"]) == (benchmark.WORKERS, benchmark.SPREAD)
    assert list(values["ways"]) == list(benchmark.WAYS)
    assert values["seeds"] >= 10
