"""`fbnetv3 search collect` and what is done with its table, as a user meets them."""

import json

import pytest

from fbnetv3.search.nars.config import save_config
from tests.cli.test_cli import one_line
from tests.search.images import fashion_config


@pytest.mark.slow
def test_two_collections_are_one_table_that_is_shown_and_searched(run, tmp_path):
    save_config(fashion_config(tmp_path), tmp_path / "preset.yaml")
    for seed in (0, 1):
        out = tmp_path / f"out{seed}"
        command = [
            "search",
            "collect",
            "--preset",
            tmp_path / "preset.yaml",
            "--trainings",
            26,
            "--seed",
            seed,
            "--workers",
            1,
        ]
        code, text, _ = run(*command, "--licence", "MIT", "--out", out)
        assert code == 0
        assert f"table: {out / 'table.npz'}" in text
    code, text, _ = run(*command, "--licence", "MIT", "--out", out, "--json")  # it has ended: nothing is trained again
    assert (code, json.loads(text)["trainings"]) == (0, 26)
    one_line(run(*command[:-3], 7, "--out", out), "has a collection with seed 1 and not 7")

    both = tmp_path / "both.npz"
    code, text, _ = run(
        "search", "table", "merge", *(tmp_path / f"out{seed}" / "table.npz" for seed in (0, 1)), "--out", both
    )
    assert code == 0
    assert "validation and test" in text
    one_line(
        run("search", "table", "merge", both, both, "--out", tmp_path / "c.npz"), "two tables have the same training"
    )
    one_line(run("search", "table", "merge", both, "--out", both), "--overwrite")
    one_line(run("search", "table", "merge", both, "--out", tmp_path / "c.csv"), "a table file ends in .npz")
    code, text, _ = run("search", "table", "show", both, "--json")
    shown = json.loads(text)
    assert (shown["trainings"], shown["licence"]) == (52, "MIT")
    assert shown["design"].startswith("seed 0; ")

    code, text, _ = run("search", "table", "surrogate", both, "--space", "micro")
    assert code == 0
    assert "rank correlation of two trainings of a pair, all pairs" in text
    code, text, _ = run("search", "table", "surrogate", both, "--space", "micro", "--json")
    assert set(json.loads(text)) == {"error", "rank", "rank_of_best", "ceiling", "ceiling_of_best", "noise"}
    one_line(run("search", "table", "surrogate", both, "--space", "cifar"), "is of another space than cifar")

    compare = ["search", "compare", "--table", both, "--methods", "nars,random,tpe", "--trainings", 16, "--seeds", 2]
    code, text, error = run(*compare, "--out", tmp_path / "comparison")
    assert code == 0, error
    assert "tpe" in text.partition("why it cannot search there")[2]
