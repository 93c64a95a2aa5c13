"""The comparison: tables and made-up accuracies, resumed after a kill, real trainings in small, the committed files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.benchmarks.search.compare import (
    BENCHMARK,
    METHOD,
    TRUTHS,
    checked_surrogate,
    compare,
    parse_budgets,
    parse_trainings,
)
from fbnetv3.benchmarks.search.comparison.cases import LowestShare, plan_cases, with_predictor
from fbnetv3.benchmarks.search.comparison.methods import METHODS, Comparison
from fbnetv3.benchmarks.search.comparison.tables import tables
from fbnetv3.files import lock_folder
from fbnetv3.progress import silent
from fbnetv3.search.collect.surrogate import Surrogate
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_file import read_table
from fbnetv3.search.trial import read_ledger
from tests.places import ROOT
from tests.search.collect.made_up import WithTest, collected

pytest.importorskip("optuna")
ONE = ExecutorSettings(workers=1)
JOINT = [name for name, method in METHODS.items() if method.family != "order"]
FOUR = ("nars", "random", "tpe", "evolution")


@pytest.mark.slow
def test_all_methods_on_a_table(table, small, tmp_path):
    values = compare(Comparison(small(table, (16,), (150.0,)), JOINT, range(2)), tmp_path, ONE, silent)
    assert values["accuracies"] == "table"
    [(name, case)] = values["cases"].items()
    assert name == "trainings_16_flops_0.00015M"
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


def test_a_folder_in_use_is_refused(table, small, tmp_path):
    with lock_folder(tmp_path, "comparison"), pytest.raises(InputError, match="is in use by another comparison; wait"):
        compare(Comparison(small(table), ["random"], [0]), tmp_path, ONE, silent)


def untimed(values):
    """Return the values without the times of proposals, which differ from run to run."""
    text = json.dumps(values, sort_keys=True)
    return re.sub(r'"proposal_seconds": {[^}]*}', "", text)


def test_several_tables_in_one_folder(table, small, tmp_path):
    shutil.copy(table, tmp_path / "other.csv")
    cases = {f"{path.stem}/trainings_16": small(path)["trainings_16"] for path in (table, tmp_path / "other.csv")}
    comparison = Comparison(cases, ["random", "architecture_then_recipe_random"], range(2))
    found = compare(comparison, tmp_path / "out", ONE, silent)
    assert list(found["overall"]["trainings_16"]["regret_over_best_rival"]) == ["grid", "other"]
    first, second = found["cases"].values()
    assert untimed(first | {"table": ""}) == untimed(second | {"table": ""})
    # A finished search is only read.
    assert compare(comparison, tmp_path / "out", ONE, silent) == found


def test_a_second_call_only_adds(table, small, tmp_path):
    def run(seeds, trainings=(16,)):
        found = compare(Comparison(small(table, trainings), FOUR, range(seeds)), tmp_path, ONE, silent)
        return found["cases"][f"trainings_{trainings[0]}"]["methods"]

    first = run(1)
    answers = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("answer.json")}
    more = run(2)
    assert {path: path.stat().st_mtime_ns for path in answers} == answers
    for method in FOUR:
        assert more[method]["by_seed"][:1] == first[method]["by_seed"]
    (tmp_path / "trainings_16").rename(tmp_path / "trainings_20")
    with pytest.raises(InputError, match="another configuration; give another --out"):
        run(1, (20,))


def test_a_run_writes_result_and_plot(table, tmp_path):
    result = BENCHMARK.run(
        table=(table,), methods="random", seeds=2, trainings="16", max_flops="150", out=tmp_path / "out"
    )
    assert load_result("compare", tmp_path / "out") == result
    assert (tmp_path / "out" / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert result.command == (
        "fbnetv3 search compare --out DIR --table grid.csv --methods random --seeds 2 --trainings 16 --max-flops 150"
    )
    assert "the mean of the table's trainings of that pair" in result.method


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(table, tmp_path):
    command = [sys.executable, "-m", "fbnetv3", "search", "compare", "--table", str(table)]
    command += ["--methods", "tpe,evolution,random,recipe_then_architecture_random", "--seeds", "3", "--processes", "2"]
    command += ["--out", str(tmp_path / "cut")]
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
    # The number of processes changes no result.
    command[command.index("--processes") + 1] = "1"
    subprocess.run([*command[:-1], str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    cut, whole = (load_result("compare", tmp_path / name) for name in ("cut", "whole"))
    assert untimed(cut.values) == untimed(whole.values)


def test_rich_labels_lead_to_other_trainings_on_made_up_accuracies(tmp_path):
    config = with_predictor(load_preset("quickstart").replace(pool=200), pretrain_epochs=5, members=1)
    comparison = Comparison(plan_cases([config], [12], [None]), ["nars", "nars_paper_labels"], [0], known="invented")
    assert compare(comparison, tmp_path, ONE, silent)["accuracies"] == "invented"
    rich, paper = (tmp_path / "trainings_12" / name / "seed0" / "ledger.jsonl" for name in comparison.methods)
    assert read_ledger(rich) != read_ledger(paper)


def test_all_methods_run_on_a_surrogate_which_is_checked_and_kept(tmp_path):
    collected(tmp_path / "collection", tmp_path, WithTest(), trainings=60)
    table = tmp_path / "collection" / "table.npz"
    config = with_predictor(load_preset("quickstart").replace(pool=200), pretrain_epochs=5, members=1)
    comparison = Comparison(plan_cases([config], [16], [None]), ["nars", "random", "tpe"], [0], known=str(table))
    values = compare(comparison, tmp_path / "out", ONE, silent)
    assert values["accuracies"] == "surrogate"
    surrogate, [case] = Surrogate.fit(load_space("micro"), read_table(table)), values["cases"].values()
    for method in comparison.methods:
        answer = json.loads((tmp_path / "out" / "trainings_16" / method / "seed0" / "answer.json").read_text())
        assert answer["acc1"] == surrogate(np.array([answer["candidate"]]))[0]
        assert case["methods"][method]["acc1"] == pytest.approx(answer["acc1"], abs=1e-3)
    check = checked_surrogate(comparison)
    assert check["noise"] == pytest.approx(read_table(table).noise(), abs=1e-4)
    shown = tables(Result("2026-11-29", "", "", {}, values | {"surrogate": check}))
    assert "rank correlation" in str(shown["the surrogate, which is no measurement"])
    collected(tmp_path / "other", tmp_path, WithTest(), trainings=60, seed=1)
    table.write_bytes((tmp_path / "other" / "table.npz").read_bytes())
    with pytest.raises(InputError, match=r"holds a comparison with another inputs/surrogate/table\.npz"):
        compare(comparison, tmp_path / "out", ONE, silent)


@pytest.mark.slow
def test_real_trainings_in_small(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"optimizer": "sgd", "lr": 0.05, "epochs": 2, "batch_size": 500, "ema_decay": 0.8})
    )
    tiny = {"recipe": str(recipe), "pool": 64, "first": 2, "batch": 2, "rounds": 2, "finalists": 2, "final_stretch": 1}
    config = load_preset("quickstart").replace(**tiny)
    values = compare(Comparison({"trainings_6": config}, FOUR, [0]), tmp_path / "out", ONE, silent)
    assert values["accuracies"] == "real"
    for method, row in values["cases"]["trainings_6"]["methods"].items():
        folder = tmp_path / "out" / "trainings_6" / method / "seed0"
        assert (folder / "weights.pt").is_file()
        assert json.loads((folder / "answer.json").read_text())["acc1"] == row["acc1"]
        assert row["seconds"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one of --preset and --table"),
        ({"preset": "quickstart", "table": ("x.csv",)}, "give one of --preset and --table"),
        ({"table": ("x.csv",), "invented": True}, "--invented needs --preset"),
        ({"table": ("x.csv",), "surrogate": Path("y.npz")}, "--surrogate needs --preset"),
        (
            {"preset": "quickstart", "invented": True, "surrogate": Path("y.npz")},
            "give one of --invented and --surrogate",
        ),
        (
            {"preset": "quickstart", "processes": 2},
            "--processes is for accuracies that are looked up; give --workers for real trainings",
        ),
        (
            {"preset": "quickstart", "max_flops": "101%"},
            "'101%'; a share of a table's pairs is above 0% and at most 100%",
        ),
        ({"preset": "quickstart", "max_flops": "0%"}, "'0%'; a share of a table's pairs is above 0%"),
        ({"preset": "quickstart", "max_flops": "some%"}, "'some%'; a share of a table's pairs is above 0%"),
        ({"preset": "quickstart", "max_flops": "30%"}, "a budget of 30% of the pairs needs a table"),
        ({"preset": "quickstart", "trainings": "40 many"}, "--trainings is '40 many'; give whole numbers"),
        ({"preset": "quickstart", "max_flops": "all 50X"}, "--max-flops is '50X'; give a count"),
        ({"preset": "quickstart", "methods": "nars,annealing"}, "unknown annealing"),
        ({"preset": "quickstart", "methods": "nars, random tpe, annealing"}, "unknown annealing; "),
    ],
)
def test_mistakes_are_named_before_anything_runs(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        BENCHMARK.measure(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_options_are_read():
    assert parse_trainings(None) is None
    assert parse_trainings("40 144") == [40, 144]
    assert parse_budgets("all 50M 30%") == [None, 50e6, LowestShare(0.3)]


COMMITTED = {
    "compare_final": 20,
    "compare_final_30": 20,
    "compare_final_all": 20,
    "compare_nas_bench_macro": 20,
    "compare_invented": 20,
    "compare_quickstart": 3,
}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_files_are_complete(name):
    result = load_result(name)
    if "left_out" in next(iter(result.values["cases"].values())):  # files of earlier versions say what they measured
        truth, curve = TRUTHS[result.values["accuracies"]]
        assert result.method == METHOD.format(truth=truth, curve=curve)
    assert result.command.startswith("fbnetv3 search compare ")
    for case in result.values["cases"].values():
        assert len(case["seeds"]) >= COMMITTED[name]
        assert set(FOUR) <= set(case["methods"])
        for row in case["methods"].values():
            assert len(row["by_seed"]) == len(case["seeds"])
            assert row["acc1"] == pytest.approx(np.mean(row["by_seed"]), abs=1e-3)
