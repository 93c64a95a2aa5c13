"""`search budgets`, `scale` and `search latency-table` as a user meets them."""

import json

import numpy as np
import pytest

from fbnetv3.arch import Arch
from fbnetv3.complexity import cost
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.space import measure_latency as timing
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import distinct_parts, load_table
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line
from tests.search.scripted import config, run_scripted


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    cfg = config(folder, batch=6)
    run_scripted(cfg, folder / "ledger.jsonl")
    save_config(cfg, folder / "config.yaml")
    return folder


def test_budgets(run, searched):
    code, out, _ = run("search", "budgets", searched, "--max-flops", "250K, 300K", "--max-flops", "400K", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["budget"] for row in rows] == ["flops 250K", "flops 300K", "flops 400K"]
    assert all(row["flops"] <= top for row, top in zip(rows, (250e3, 300e3, 400e3), strict=True))
    for row in rows:
        assert row["test_acc1"] is None
        code, shown, _ = run("info", searched / row["pair"], "--json")
        assert json.loads(shown)["totals"][0]["flops"] == row["flops"]
    one_line(run("search", "budgets", searched), "give budgets with --max-flops or with --max-params")
    one_line(run("search", "budgets", searched, "--max-flops", "many"), "--max-flops is 'many'")
    one_line(run("search", "budgets", searched / "absent", "--max-flops", "1M"), "no search in")


def test_scale(run, pair):
    code, out, _ = run("scale", "--model", "fbnetv3_b", "--target-flops", "357M", "--json")
    rows = json.loads(out)
    assert code == 0
    assert 5 < len(rows) <= 10
    assert [row["from_rule"] for row in rows] == sorted(row["from_rule"] for row in rows)
    for row in rows:
        assert row["flops"] == cost(Arch.from_dict(row["arch"])).flops() == pytest.approx(357e6, rel=0.01)
    _, table, _ = run("scale", "--pair", pair, "--target-flops", "2.5M", "--tolerance", "0.05", "--top", "2")
    assert table.count("\n") == 6
    one_line(run("scale", "--target-flops", "1G"), "give one network, with --model or with --pair")
    one_line(run("scale", "--model", "fbnetv3_z", "--target-flops", "1G"), "unknown model")


def test_latency_table_and_a_search_within_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 1)
    file, space = tmp_path / "latency.json", load_space("micro")
    code, out, err = run("search", "latency-table", "micro", "--out", file, "--networks", "2", "--seed", "3")
    rows = random_rows(space, 2, np.random.default_rng(3))
    assert code == 0
    assert "measuring the blocks of space micro" in err
    assert sorted(load_table(file).ms) == distinct_parts(space, rows)
    assert f"{len(load_table(file).ms)} blocks" in out
    new = ["--out", tmp_path / "run", "--max-latency", "1", "--latency-table"]
    one_line(run("search", "run", *new, file), "measure it with `fbnetv3 search latency-table`")
    one_line(run("search", "run", *new, tmp_path / "absent.json"), "cannot read the latency table")
