"""`fbnetv3 search run | resume | verify | export | budgets` as a user meets them."""

import json

import pytest

from fbnetv3.search.nars.config import load_preset, save_config
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


def test_mistakes_with_options_are_one_line_and_leave_no_folder(run, tmp_path):
    new = ["--out", tmp_path / "run"]
    one_line(run("search", "run", *new, "--preset", "slow"), "unknown preset 'slow'; available: cifar10, imagenet200")
    one_line(run("search", "run", *new, "--max-flops", "lots"), "--max-flops is 'lots'; give a count such as 450M")
    one_line(run("search", "run", *new, "--max-latency", "2"), "--max-latency and --latency-table work only together")
    one_line(
        run("search", "run", *new, "--max-params", "9K", "--max-flops", "400K"),
        "params (published convention) from 0 to 9,000",
    )
    one_line(run("search", "run", *new, "--flops-convention", "mine"), "convention is 'mine'")
    one_line(run("search", "resume", tmp_path / "run"), "no search in")
    assert not (tmp_path / "run").exists()


def test_an_infeasible_budget_is_one_line(run, tmp_path):
    one_line(
        run("search", "run", "--out", tmp_path / "run", "--max-flops", "10K", "--workers", "1"),
        "give wider constraints",
    )
    assert not (tmp_path / "run").exists()


def test_a_damaged_ledger_is_one_line(run, tmp_path):
    folder = tmp_path / "run"
    config = load_preset("quickstart")
    save_config(config, folder / "config.yaml")
    header = json.dumps({"ledger": 2, "config": config.fingerprint})
    (folder / "ledger.jsonl").write_text(f"{header}\nnot json\n")
    one_line(run("search", "resume", folder), "line 2 is damaged; restore the file")


def test_an_unwritable_folder_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run("search", "run", "--out", tmp_path / "file" / "run"), "give a folder that can be written")


def test_an_unknown_export_format_suggests_the_nearest(run, searched, tmp_path):
    one_line(run("search", "export", searched, "--out", tmp_path / "x", "--format", "jsn"), "did you mean 'json'?")
    assert not (tmp_path / "x").exists()
