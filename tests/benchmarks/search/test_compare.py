"""The comparison: tables and invented accuracies, resumed after a kill, real trainings in small, the committed files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.benchmarks.docs import readme
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import compare as benchmark
from fbnetv3.benchmarks.search.compare import (
    METHODS,
    Plan,
    compare,
    curve,
    make_context,
    plan_cases,
    predictor_with,
    summary,
    with_trainings,
    without_finalists,
)
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.trial import Trial, read_ledger
from tests.places import ROOT
from tests.search.space.test_table import whole_grid

pytest.importorskip("optuna")
RIVALS = ("nars", "random", "tpe", "evolution")


def quiet(_done, _total, _text):
    pass


def small(path, trainings=(16,), flops=(None,)):
    """Cases of a table, whose predictor is quick."""
    cases = plan_cases(Path(path), trainings, flops)
    return {name: predictor_with(config, pretrain_epochs=5) for name, config in cases.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return whole_grid(tmp_path_factory.mktemp("table") / "grid.csv", (5, 5, 5), noise=0.3)


def test_all_methods_on_a_table(table, tmp_path):
    plan = Plan(small(table, (16,), (None, 150.0)), list(METHODS), range(2))
    result = compare(plan, tmp_path, 1, "command", quiet)
    assert load_result("compare", tmp_path) == result
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert list(result.values["cases"]) == ["trainings_16", "trainings_16_flops_0.00015M"]
    for name, case in result.values["cases"].items():
        for method, row in case["methods"].items():
            folders = [tmp_path / name / method / f"seed{seed}" for seed in (0, 1)]
            assert [len(read_ledger(f / "ledger.jsonl")) for f in folders] == [case["trainings"]] * 2
            assert len(row["curve"]) == case["trainings"]
            assert row["regret"] >= 0
            assert row["curve"][-1] == pytest.approx(row["acc1"], abs=1e-3)
        # A table with FLOPs and parameters alone has nothing richer.
        assert case["methods"]["nars_paper_labels"]["by_seed"] == case["methods"]["nars"]["by_seed"]
        assert case["nars_minus"]["nars_paper_labels"]["mean"] == 0.0
        assert case["nars_minus"]["nars_paper_labels"]["share_better"] == 0.5


def test_a_second_call_only_adds(table, tmp_path):
    first = compare(Plan(small(table), RIVALS, range(1)), tmp_path, 1, "command", quiet)
    answers = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("answer.json")}
    more = compare(Plan(small(table), RIVALS, range(2)), tmp_path, 1, "command", quiet)
    assert {path: path.stat().st_mtime_ns for path in answers} == answers
    for method in RIVALS:
        before, after = (r.values["cases"]["trainings_16"]["methods"][method]["by_seed"] for r in (first, more))
        assert after[:1] == before
    with pytest.raises(InputError, match="another configuration; give another --out"):
        compare(Plan({"trainings_16": small(table, (20,))["trainings_20"]}, RIVALS, [0]), tmp_path, 1, "x", quiet)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(table, tmp_path):
    command = [
        sys.executable,
        "-m",
        "fbnetv3",
        "search",
        "compare",
        "--table",
        table,
        "--methods",
        "tpe,evolution,random",
        "--seeds",
        "3",
        "--out",
        str(tmp_path / "cut"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if len(list((tmp_path / "cut").rglob("answer.json"))) >= 2 or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "compare.json").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    subprocess.run([*command[:-1], str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    cut, whole = (load_result("compare", tmp_path / name) for name in ("cut", "whole"))
    assert cut.values == whole.values


def test_invented_accuracies_are_told_apart_by_rich_labels(tmp_path):
    config = predictor_with(load_preset("quickstart").replace(pool=200), pretrain_epochs=5)
    plan = Plan(plan_cases(config, [12], [None]), ["nars", "nars_paper_labels"], [0], invented=True)
    result = compare(plan, tmp_path, 1, "command", quiet)
    assert result.values["accuracies"] == "invented"
    assert "made-up landscape" in result.method
    rich, paper = (tmp_path / "trainings_12" / name / "seed0" / "ledger.jsonl" for name in plan.methods)
    assert read_ledger(rich) != read_ledger(paper)


@pytest.mark.slow
def test_real_trainings_in_small(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"optimizer": "sgd", "lr": 0.05, "epochs": 2, "batch_size": 500, "ema_decay": 0.8})
    )
    tiny = {"recipe": str(recipe), "pool": 64, "batch": 2, "rounds": 2, "finalists": 2, "final_stretch": 1}
    config = load_preset("quickstart").replace(**tiny)
    result = compare(Plan({"trainings_6": config}, RIVALS, [0]), tmp_path / "out", 1, "command", quiet)
    assert result.values["accuracies"] == "real"
    for method, row in result.values["cases"]["trainings_6"]["methods"].items():
        folder = tmp_path / "out" / "trainings_6" / method / "seed0"
        assert (folder / "weights.pt").is_file()
        assert json.loads((folder / "answer.json").read_text())["acc1"] == row["acc1"]
        assert row["seconds"] > 0


def test_the_trainings_are_split_as_said():
    config = load_preset("quickstart")
    assert [(c.rounds, c.batch, c.finalists) for c in (with_trainings(config, n) for n in (40, 144, 17))] == [
        (4, 9, 4),
        (5, 28, 4),
        (1, 13, 4),
    ]
    alone = without_finalists(with_trainings(config, 144))
    assert (alone.rounds, alone.batch, alone.finalists, alone.trainings) == (4, 36, 0, 144)
    with pytest.raises(InputError, match="4 trainings are too few for 4 finalists"):
        with_trainings(config, 4)
    [(name, narrow)] = plan_cases(config, None, [200e3]).items()
    assert name == "trainings_40_flops_0.2M"
    assert (narrow.constraint.min, narrow.constraint.max) == (75e3, 200e3)


def test_the_curve_is_the_true_accuracy_of_the_best_measured(table):
    context, truth = make_context(small(table)["trainings_16"], False)
    rows = [[0, 0, 0], [4, 4, 4], [1, 1, 1]]
    trials = [
        Trial(1, i, row, 0, 1, 1, 1, None, [acc1], "ok", 0.0)
        for i, (row, acc1) in enumerate(zip(rows, (60.0, 55.0, 70.0), strict=True))
    ]
    first, third = context.space.accuracy(np.array([rows[0], rows[2]])).tolist()
    assert curve(context, truth, trials, third) == [first, first, third]
    assert curve(context, None, trials, 0.0) == [60.0, 60.0, 70.0]


def test_trials_that_stopped_early_are_compared_after_as_many_epochs(monkeypatch, table):
    context, _ = make_context(small(table)["trainings_16"], False)
    long, short = (
        Trial(1, 0, [0, 0, 0], 0, 2, 1, 1, None, [30.0, 60.0], "ok", 0.0),
        Trial(2, 0, [4, 4, 4], 0, 1, 1, 1, None, [40.0], "ok", 0.0),
    )
    monkeypatch.setattr(benchmark, "nars", lambda *_: None)
    found = benchmark.stage_two_alone(context, SimpleNamespace(trials=[long, short]), None, quiet)
    assert found.candidate == (4, 4, 4)
    truth = context.space.accuracy
    assert curve(context, truth, [long, short, long], 1.0)[1] == truth(np.array([[4, 4, 4]]))[0]


def test_the_summary_by_hand(table):
    def answers(*accuracies):
        return [{"acc1": a, "epochs": 16, "seconds": 1.0, "curve": [a - 1, a]} for a in accuracies]

    plan = Plan(small(table), ["nars", "random"], [0, 1, 2])
    found = summary(plan, "trainings_16", {"nars": answers(61, 62, 63), "random": answers(60, 62, 60)})
    assert found["pairs"] == 125
    assert found["methods"]["nars"]["acc1"] == 62.0
    assert found["methods"]["nars"]["acc1_std"] == 1.0
    assert found["methods"]["nars"]["curve"] == [61.0, 62.0]
    assert found["methods"]["random"]["regret"] == pytest.approx(found["best"] - 182 / 3, abs=1e-3)
    assert found["nars_minus"]["random"]["mean"] == pytest.approx(4 / 3, abs=1e-4)
    assert found["nars_minus"]["random"]["share_better"] == pytest.approx(2.5 / 3, abs=1e-3)


def test_unknown_methods_and_tables(tmp_path, table):
    with pytest.raises(InputError, match=r"unknown annealing; allowed: nars, random, tpe, .*"):
        Plan(small(table), ["annealing"], [0])
    with pytest.raises(InputError, match="has 30 pairs of at most 115 FLOPs; at least 40 are needed"):
        plan_cases(Path(table), [16], [115.0])


COMMITTED = {"compare_nas_bench_macro": 20, "compare_invented": 20, "compare_quickstart": 3}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_files_are_whole(name):
    result = load_result(name)
    assert result.command.startswith("fbnetv3 search compare ")
    for case in result.values["cases"].values():
        assert len(case["seeds"]) >= COMMITTED[name]
        assert set(RIVALS) <= set(case["methods"])
        for row in case["methods"].values():
            assert len(row["by_seed"]) == len(case["seeds"])
            assert row["acc1"] == pytest.approx(np.mean(row["by_seed"]), abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 2.0, "better"), (-0.1, 2.0, "no difference"), (-2.0, -0.1, "worse")]
)
def test_the_readme_says_what_the_interval_says(low, high, words):
    assert readme.verdict({"mean": 0.0, "low": low, "high": high}) == words
