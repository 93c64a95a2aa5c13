"""The quickstart of two versions: paired by seed, run once, and the committed file."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import quickstart as benchmark
from fbnetv3.benchmarks.search.quickstart import run_search, summary
from tests.places import ROOT


def measured(acc1, seconds):
    return {"test_acc1": acc1, "cpu_seconds": seconds}


def test_a_summary_pairs_by_seed():
    before = [measured(80.0, 100.0), measured(82.0, 110.0), measured(81.0, 300.0)]
    after = [measured(81.0, 55.0), measured(83.0, 50.0), measured(82.0, 60.0)]
    values = summary({"before": before, "after": after})
    assert values["mean"] == {"before": 81.0, "after": 82.0}
    assert values["difference"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert values["slower"] == 0.5


def test_a_search_runs_the_code_of_the_checkout_once(tmp_path, monkeypatch):
    calls = []

    def run(command, *, cwd, env, **_):
        calls.append((command[3:], cwd, env["PYTHONPATH"]))
        (cwd / "run").mkdir()
        (cwd / "run" / "result.json").write_text(json.dumps({"nars": {"test_acc1": 81.5}}))

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    first = run_search(ROOT, 3, tmp_path)
    assert first["test_acc1"] == 81.5
    assert run_search(ROOT, 3, tmp_path) == first
    words = ["search", "run", "--preset", "quickstart", "--seed", "3", "--workers", "2", "--out", str(tmp_path / "run")]
    assert calls == [(words, tmp_path, str(ROOT))]


def test_the_commit_of_a_checkout(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="is no checkout of the repository"):
        benchmark.commit_of(tmp_path / "absent")
    done = SimpleNamespace(returncode=0, stdout="a42e58a\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert benchmark.commit_of(tmp_path) == "a42e58a"


def test_the_committed_result_follows_from_its_seeds():
    result = load_result("quickstart")
    assert result.method == benchmark.METHOD.format(test="2,000")  # before the package had more
    values = result.values
    rows = {
        name: [measured(*row) for row in zip(values["test_acc1"][name], values["cpu_seconds"][name], strict=True)]
        for name in ("before", "after")
    }
    assert len(rows["after"]) == len(rows["before"]) >= 5
    assert summary(rows) == values
    (table,) = benchmark.tables(result).values()
    assert table.rows[0][0] == f"commit {result.versions['before']}"
    assert table.rows[0][-1] == "-"
