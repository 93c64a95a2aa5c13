"""What a start from an earlier search gains: on a made-up table, by hand, and in the committed file."""

import dataclasses
import functools

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import warm_start as benchmark
from fbnetv3.benchmarks.search.warm_start import BENCHMARK, Case
from fbnetv3.search.nars.evolve import EvolutionSettings
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.nars.sources import Source
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_archive import write_archive
from fbnetv3.search.trial import Trial
from tests.search.tables import whole_grid


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with one table."""
    folder = tmp_path_factory.mktemp("tables")
    write_archive(load_space(whole_grid(folder / "grid.csv", (5, 5, 5), noise=0.3)), folder / "grid.npz")
    return folder


def test_misleading_sources_by_hand():
    source = Source(1, "s", "space", None, {"a": "a range"}, [[1], [2], [3]], [10.0, 20.0, 70.0])
    assert benchmark.turned(source, 0).accuracies == [70.0, 60.0, 10.0]
    assert sorted(benchmark.shuffled(source, 1).accuracies) == [10.0, 20.0, 70.0]
    assert benchmark.shuffled(source, 1).candidates == source.candidates


def test_gains_by_hand():
    seeds = [{"24": {"none": 2.0, "related": 1.0, "random": 2.5}}, {"24": {"none": 4.0, "related": 1.0, "random": 4.5}}]
    found = benchmark.summary(seeds)["24"]
    assert found["related"]["regret"] == 1.0
    assert found["related"]["gain"]["mean"] == 2.0
    assert found["random"]["gain"] == {"mean": -0.5, "low": -0.5, "high": -0.5}
    values = {"cases": {"mlp": {"regret": {"24": found}}}}
    targets = benchmark.targets(values)
    assert targets["intervals_below_zero"].value == 1
    assert targets["misleading_share"].value == pytest.approx(-0.167)
    assert targets["related_share"].value == pytest.approx(2 / 3, abs=1e-3)
    assert [target.met for target in targets.values()] == [False, False, True]


def scripted(context, predictor):
    """A search that trains the first candidates of its pool, and answers with one of them by its seed."""
    rows, evaluate = context.pool()[:8].tolist(), context.evaluator()
    trials = []
    for i, row in enumerate(rows):
        outcome = evaluate(context.space.candidate(row, context.base, "candidate"), 1, i)
        trials.append(Trial(1, i, row, i, 1, 1, 1, None, list(outcome.acc1), "ok", 0.0))
    return Proposal(tuple(rows[context.config.seed % 8]), None, 1), trials


@pytest.fixture
def quick(monkeypatch):
    """Searches on tables have a small predictor and a short evolution."""
    table_config = benchmark.table_config

    def short(path, flops):
        config = table_config(path, flops)
        settings = dataclasses.replace(config.predictor, members=1)
        return config.replace(evolution=EvolutionSettings(evaluations=100, restarts=0), predictor=settings)

    monkeypatch.setattr(benchmark, "PRETRAINING", 1)
    monkeypatch.setattr(benchmark, "table_config", short)


def test_a_run_writes_a_complete_result_and_is_continued(quick, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "search", scripted)
    run = functools.partial(BENCHMARK.run, write_to=tmp_path / "warm_start.json", tables=tables, out=tmp_path / "out")
    cases = {"budget": Case("grid", "grid", budget=True)}
    result = run(seeds=2, trainings=(16, 20), cases=cases)
    assert load_result("warm_start", tmp_path) == result
    found = result.values["cases"]["budget"]["regret"]
    assert set(found["16"]) == {"none", "related", "random", "reversed"}
    assert set(found["20"]) == {"none", "related"}
    assert all(row["regret"] >= 0 and len(row["by_seed"]) == 2 for row in found["16"].values())
    assert result.command == "fbnetv3 benchmark warm-start --tables DIR --out DIR --seeds 2"
    assert len(BENCHMARK.all_tables(result)["gain of a start"].rows) == 4
    monkeypatch.setattr(benchmark, "search", None)  # what is there is not searched again
    assert run(seeds=2, trainings=(16, 20), cases=cases).values == result.values
    with pytest.raises(InputError, match="is of another configuration; give another --out"):
        run(seeds=2, trainings=(20,), cases=cases)


def test_a_search_with_a_start_makes_its_trainings_inside_the_budget(quick, tables):
    context = benchmark.resized(benchmark.context_of(tables / "grid.npz", 3, budget=True), 12)
    predictor = benchmark.pretrained_predictor(context)
    source = Source.of("s", context.space, None, [[0, 0, 0], [2, 2, 2], [4, 4, 4]], [50.0, 60.0, 70.0])
    predictor.start_from([source.lesson(context.space)])
    proposal, trials = benchmark.search(dataclasses.replace(context, sources=(source,)), predictor)
    assert len(trials) == context.config.trainings == 12
    costs = context.space.figure("flops", "", context.space.known())
    assert all(trial.flops <= np.quantile(costs, benchmark.SHARE) for trial in trials)
    assert list(proposal.candidate) in [trial.candidate for trial in trials]
