"""`fbnetv3 search audit | latency-table` as a user meets them."""

import json

import numpy as np

from fbnetv3.search.space import measure_latency as timing
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import distinct_parts, load_table
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line


def test_audit_shows_sizes_and_what_is_outside(run):
    code, out, _ = run("search", "audit", "table2", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["space"] == "table2"
    assert data["architectures"] > 1e17
    code, table, _ = run("search", "audit", "table2")
    assert "table2: 1.23e+18 architectures" in table
    assert "fbnetv3_b" in table
    one_line(run("search", "audit", "mirco"), "did you mean 'micro'?")


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
