"""Searches on a GPU: several trials on one, one that fills its memory, and one that breaks it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.execution.memory import GPU_FULL
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.sessions import run_search
from fbnetv3.search.trial import Outcome
from tests.places import ROOT
from tests.search.execution.jobs import jobs
from tests.search.images import fashion_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FILL, BREAK = 100, 200


class Uses:
    """Uses the GPU. Jobs from `FILL` ask for too much memory, jobs from `BREAK` read behind the end of a tensor."""

    device = "cuda"

    def __call__(self, candidate, epochs, seed):
        held = torch.ones(2**26, device="cuda")  # 256 MiB
        if seed >= BREAK:
            held[torch.tensor([2**26], device="cuda")].sum().item()
        elif seed >= FILL:
            held = [held, torch.empty(2**50, device="cuda")]
        return Outcome((float(held.mean()), float(torch.cuda.device_count())), "ok", 0.0)


OK = Outcome((1.0, 1.0), "ok", 0.0)


def check_that_one_failure_hurts_no_other(executor):
    found = dict(executor.run(jobs(1, FILL, 2, FILL + 1, 3)))
    for name in (f"job {FILL}", f"job {FILL + 1}"):
        failed = found.pop(name)
        assert (failed.status, failed.error[: len(GPU_FULL)]) == ("failed", GPU_FULL)
    assert {outcome.acc1[0] for outcome in found.values()} == {1.0}


def test_out_of_memory_is_one_failed_trial_and_the_next_one_works():
    before = torch.cuda.memory_reserved()
    check_that_one_failure_hurts_no_other(InProcess(Uses()))
    assert torch.cuda.memory_reserved() <= before  # nothing of the trials is left
    with ExecutorSettings(trials_per_gpu=2).start(Uses()) as executor:
        check_that_one_failure_hurts_no_other(executor)


def test_a_trial_that_breaks_the_gpu_is_one_failed_trial():
    with ProcessPool(Uses(), 1) as executor:
        found = dict(executor.run(jobs(1, BREAK, 2)))
    assert found[f"job {BREAK}"].status == "failed"
    assert "CUDA error" in found[f"job {BREAK}"].error
    assert {found["job 1"].status, found["job 2"].status} == {"ok"}


def test_every_trial_sees_one_gpu():
    with ExecutorSettings(trials_per_gpu=2).start(Uses()) as executor:
        assert isinstance(executor, ProcessPool)
        assert set(dict(executor.run(jobs(1, 2, 3, 4))).values()) == {OK}


def test_the_search_itself_uses_no_gpu():
    program = (
        "import torch; from fbnetv3.search.execution.machine import find_machine; found = find_machine('auto', 'auto');"
        "assert found.device == 'cuda' and found.words.startswith('cuda ('), found; assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_a_search_with_several_trials_on_one_gpu(tmp_path):
    cfg = fashion_config(tmp_path, device="auto", precision="auto", readers=None, batch=3)
    (found,) = run_search(cfg, tmp_path / "run", executor=ExecutorSettings(trials_per_gpu=3))
    assert {trial.status for trial in found.trials} <= {"ok", "diverged"}
    assert found.pair.measured["acc1"] > 0
    assert (found.pair.provenance["device"], found.pair.provenance["precision"]) != ("cpu", "fp32")
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert recorded["devices"] == [f"cuda ({torch.cuda.get_device_name()})"]
    assert "differs" not in {check.status for check in verify(tmp_path / "run", 1, lambda *_: None)}
