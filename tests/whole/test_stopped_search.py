"""A search that crashes, or is killed, and is resumed: its result is that of an uninterrupted search."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.sessions import run_search
from fbnetv3.search.trial import comparable, read_ledger
from tests.places import ROOT
from tests.search.images import fashion_config
from tests.search.scripted import Scripted, config, run_scripted


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [0, 2], ids=["in rounds", "asynchronous"])
@pytest.mark.parametrize("cut", [False, True], ids=["between two lines", "in a line"])
def test_a_crash_after_every_write_changes_nothing(tmp_path, cut, at_once):
    cfg = config(tmp_path, batch=3, asynchronous=at_once)
    proposal, _, _ = run_scripted(cfg, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for lines in range(len(whole)):
        path = tmp_path / f"cut{lines}.jsonl"
        path.write_bytes(b"".join(whole[:lines]) + (whole[lines][:20] if cut else b""))
        evaluator = Scripted()
        again, trials, _ = run_scripted(cfg, path, evaluator=evaluator)
        assert again == proposal
        assert path.read_bytes() == b"".join(whole)
        made = sum(b'"planned"' not in line for line in whole[1:lines])
        assert len(evaluator.calls) == 8 - made  # nothing in the ledger is trained again
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
    whole = count_lines(folder / "ledger.jsonl")
    run, kills = killed_again_and_again(cfg, tmp_path, workers, whole)
    assert kills >= whole // 2
    assert comparable(read_ledger(run / "ledger.jsonl")) == comparable(read_ledger(folder / "ledger.jsonl"))
    assert (run / "pair.yaml").read_bytes() == (folder / "pair.yaml").read_bytes()
    assert (run / "final" / "metrics.csv").read_bytes() == (folder / "final" / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_an_asynchronous_search_that_is_killed_again_and_again_is_the_one_that_its_ledger_leads_to(tmp_path):
    """Two workers: what was running starts again, so the order of the ends is known only afterwards."""
    cfg = fashion_config(tmp_path, batch=4, asynchronous=2)
    whole = 1 + cfg.trainings + 4  # the header, the trials, and the plans of the second batch
    run, kills = killed_again_and_again(cfg, tmp_path, "2", whole)
    assert kills >= whole // 2
    assert count_lines(run / "ledger.jsonl") == whole
    assert {check.status for check in verify(run, 2, silent)} == {"same"}


def killed_again_and_again(cfg, folder, workers, whole):
    """Return the folder of a search that was killed soon after each line of its ledger, and how often it was killed."""
    run, rng, kills = folder / "run", random.Random(0), 0
    save_config(cfg, folder / "preset.yaml")
    arguments = ["run", "--preset", str(folder / "preset.yaml"), "--out", str(run)]
    for lines in [*range(whole), None]:  # the last one is not killed, however fast the machine is
        process = begin(folder, *arguments, "--workers", workers)
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
    return run, kills


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
