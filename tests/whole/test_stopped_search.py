"""A search that crashes, or is killed, and is resumed: its result is that of an uninterrupted search."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.sessions import run_search
from fbnetv3.search.trial import comparable, read_ledger
from tests.places import ROOT
from tests.search.images import fashion_config
from tests.search.scripted import Scripted, config, run_scripted


@pytest.mark.parametrize("cut", [False, True], ids=["between two lines", "in a line"])
def test_a_crash_after_every_write_changes_nothing(tmp_path, cut):
    cfg = config(tmp_path, batch=3)
    proposal, _, _ = run_scripted(cfg, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for lines in range(len(whole)):
        path = tmp_path / f"cut{lines}.jsonl"
        path.write_bytes(b"".join(whole[:lines]) + (whole[lines][:20] if cut else b""))
        evaluator = Scripted()
        again, trials, _ = run_scripted(cfg, path, evaluator=evaluator)
        assert again == proposal
        assert path.read_bytes() == b"".join(whole)
        assert len(evaluator.calls) == 8 - max(lines - 1, 0)  # nothing in the ledger is trained again
    assert len(trials) == 8


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Configuration and folder of a search with real trainings."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    cfg = fashion_config(folder)
    run_search(cfg, folder / "run", executor=ExecutorSettings(workers=1))
    return cfg, folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_search_that_is_killed_again_and_again_ends_the_same(uninterrupted, tmp_path, workers):
    """SIGKILL ends the real command soon after each line of its ledger. No worker process may be left behind."""
    cfg, folder = uninterrupted
    run, rng, kills = tmp_path / "run", random.Random(0), 0
    save_config(cfg, tmp_path / "preset.yaml")
    arguments = ["run", "--preset", str(tmp_path / "preset.yaml"), "--out", str(run)]
    whole = count_lines(folder / "ledger.jsonl")
    for lines in [*range(whole), None]:  # the last one is not killed, however fast the machine is
        process = begin(tmp_path, *arguments, "--workers", workers)
        while lines is not None and process.poll() is None and count_lines(run / "ledger.jsonl") < lines:
            time.sleep(0.01)
        if lines is not None:
            time.sleep(rng.random() * 0.3)
            kills += process.poll() is None
            process.kill()
        code = process.wait()
        if code >= 0:
            assert code == 0
            break
        wait_for_no_workers(process.pid)
        if (run / "config.yaml").exists():
            arguments = ["resume", str(run)]
    assert kills >= whole // 2
    assert comparable(read_ledger(run / "ledger.jsonl")) == comparable(read_ledger(folder / "ledger.jsonl"))
    assert (run / "pair.yaml").read_bytes() == (folder / "pair.yaml").read_bytes()
    assert (run / "final" / "metrics.csv").read_bytes() == (folder / "final" / "metrics.csv").read_bytes()


def begin(folder, *arguments):
    """Start `fbnetv3 search` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fbnetv3", "search", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def count_lines(path):
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_no_workers(group):
    """Wait until a process group is empty. It is the one that `begin` made, so only the test's own processes are in it."""
    for _ in range(600):  # a worker that was just started imports torch before it notices
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("workers outlived their driver by a minute")
