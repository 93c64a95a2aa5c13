"""`fbnetv3 search audit | latency-table` as a user meets them."""

import json

import numpy as np

from fbnetv3.search.space import measure_latency as timing
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import distinct_parts, load_table
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line


def test_an_audit_shows_sizes_and_what_is_outside(run):
    code, text, _ = run("search", "audit", "table2")
    assert code == 0
    assert "table2: 1.23e+18 architectures, 1.76e+17 without the choice of resolution (7)" in text
    assert "260 times fewer" in text
    assert "fbnetv3_b" in text
    line = next(line for line in text.splitlines() if "fbnetv3_d" in line and "row6.c" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["fbnetv3_d", "row6.c", "240", "(180, 224, 4)", "-"]
    line = next(line for line in text.splitlines() if "fbnetv3_c" in line and "row3.c" in line)
    assert "84 is built as this" in line


def test_an_audit_can_be_json(run):
    code, text, _ = run("search", "audit", "table2", "--json")
    data = json.loads(text)
    assert code == 0
    assert data["space"] == "table2"
    assert data["architectures"] > 1e17


def test_the_audit_of_the_released_space_says_which_networks_it_contains(run):
    code, text, _ = run("search", "audit", "released", "--json")
    data = json.loads(text)
    assert code == 0
    assert [network["contained"] for network in data["networks"]] == [True] * 5 + [False] * 2
    assert data["recipes"] == 9_452_520


def test_an_unknown_space_is_refused_with_the_names(run):
    one_line(run("search", "audit", "mirco"), "did you mean 'micro'?")
    names = "unknown search space 'nano'; available: cifar, micro, micro_recipe, recipe_only, released, table2"
    one_line(run("search", "audit", "nano"), names)


def test_latency_table_and_a_search_within_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 1)
    file, space = tmp_path / "latency.json", load_space("micro")
    cpu = ("--device", "cpu")
    code, out, err = run("search", "latency-table", "micro", "--out", file, "--networks", "2", "--seed", "3", *cpu)
    rows = random_rows(space, 2, np.random.default_rng(3))
    assert code == 0
    assert "measuring the blocks of space micro" in err
    assert sorted(load_table(file).ms) == distinct_parts(space, rows)
    assert f"{len(load_table(file).ms)} blocks" in out
    other = run("search", "latency-table", "micro", "--out", file, "--batch", "2", *cpu)
    one_line(other, "this measurement of micro on")
    other = run("search", "latency-table", "micro", "--out", file, "--precision", "bf16", *cpu)
    one_line(other, "precision is 'bf16'; allowed on cpu: fp32")
    new = ["--out", tmp_path / "run", "--max-latency", "1", "--latency-table"]
    one_line(run("search", "run", *new, file), "measure it with `fbnetv3 search latency-table`")
    one_line(run("search", "run", *new, tmp_path / "absent.json"), "cannot read the latency table")
