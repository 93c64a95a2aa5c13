"""A candidate that several processes train together: they agree on one outcome, or the first failure is the outcome."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution import torchrun
from fbnetv3.search.execution.executor import LATE, InProcess, Job
from fbnetv3.search.execution.torchrun import TorchrunEvaluator
from fbnetv3.search.trial import Outcome
from fbnetv3.training.distributed import current_process
from tests.search.execution.small_training import CANDIDATE

OK, SLOW = Outcome((50.0, 60.0), "ok", 1.0), Outcome((50.0, 60.0), "ok", 2.0)
DIVERGED, FAILED = Outcome((), "diverged", 1.0), Outcome((), "failed", 1.0, "ValueError: no luck")
MISTAKE = InputError("no such data; give other data")


class Trains:
    """A real training on few images, whose last epoch is replaced by the number of processes. It fails as told."""

    def __init__(self, act="train"):
        self.act = act

    def __call__(self, candidate, epochs, seed):
        from fbnetv3 import build_model
        from fbnetv3.training.engine import seeded
        from fbnetv3.training.loop import fit
        from tests.search.execution.small_training import DATA

        process = current_process()
        if self.act == "hang" and process.rank == 1:
            time.sleep(600)
        if self.act == "mistake":
            raise InputError("no such data; give other data")
        if self.act == "diverge" and process.rank == 1:
            return Outcome((), "diverged", 0.0)
        if self.act == "raise" and process.rank == 1:
            raise ValueError("no luck")
        if self.act == "disagree":
            return Outcome((float(process.rank),) * epochs, "ok", 0.0)
        model = seeded(lambda: build_model(candidate.arch, 2, 1), seed)
        acc1 = fit(model, candidate.recipe, DATA, seed=seed, epochs=epochs - 1).acc1
        return Outcome((*acc1, float(process.world_size)), "ok", 0.0)


class Answers:
    """An evaluator that answers with one outcome, or raises it."""

    device = "cpu"

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, candidate, epochs, seed):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def outcome(act, processes=2, limit=None):
    with InProcess(TorchrunEvaluator(Trains(act), processes, limit)) as executor:
        return next(executor.run({0: Job(CANDIDATE, 2, 3)}))[1]


@pytest.fixture
def ended(monkeypatch):
    """Let torchrun end with given results, which are written in the order given. Holds the folders of the jobs."""
    folders = []

    def prepare(results, code=0, log=""):
        def run(evaluator, job, log_file):
            folders.append(job.parent)
            prepare.job = pickle.loads(job.read_bytes())[1]
            log_file.write_text(log)
            for order, (rank, result) in enumerate(results.items()):
                path = job.with_name(f"outcome.{rank}")
                path.write_bytes(pickle.dumps(result))
                os.utime(path, ns=(order, order))
            return code

        monkeypatch.setattr(TorchrunEvaluator, "_run", run)
        return folders

    return prepare


def test_the_rule_that_ends_a_training_goes_to_the_processes(ended):
    ended({0: OK, 1: OK})
    TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0, stop=any)
    assert ended.job == Job(CANDIDATE, 2, 0, any)


def test_the_outcome_that_all_agree_on_is_the_slowest(ended):
    ended({1: SLOW, 0: OK, 2: OK})
    assert TorchrunEvaluator(Trains(), 3)(CANDIDATE, 2, 0) == SLOW


@pytest.mark.parametrize(
    ("results", "expected"),
    [({1: DIVERGED, 0: FAILED}, DIVERGED), ({1: FAILED, 0: DIVERGED}, FAILED), ({1: FAILED}, FAILED)],
    ids=["diverged first", "failed first", "one alone"],
)
def test_the_first_failure_is_the_outcome(ended, results, expected):
    ended(results, code=1)
    assert TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0) == expected


def test_a_mistake_of_the_user_is_raised(ended):
    ended({1: MISTAKE}, code=1)
    with pytest.raises(InputError, match=r"^no such data; give other data$"):
        TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0)


def test_different_accuracies_are_refused(ended):
    ended({0: OK, 1: Outcome((50.0, 61.0), "ok", 1.0)})
    with pytest.raises(RuntimeError, match=r"the processes disagree: \[\(50.0, 60.0\), \(50.0, 61.0\)\]"):
        TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0)


@pytest.mark.parametrize(
    ("results", "code"), [({0: OK}, 0), ({0: OK, 1: OK}, 1), ({}, -9)], ids=["one lost", "bad code", "killed"]
)
def test_processes_that_died_are_an_error_with_the_end_of_their_log(ended, results, code):
    ended(results, code, "one\ntwo\nthree\nfour\n")
    with pytest.raises(RuntimeError, match=rf"torchrun ended with code {code}: two \| three \| four"):
        TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0)


def test_nothing_is_left_of_a_job(ended):
    folders = ended({0: OK, 1: OK})
    TorchrunEvaluator(Trains(), 2)(CANDIDATE, 2, 0)
    assert not folders[0].exists()


def test_an_evaluator_that_cannot_be_sent_is_refused():
    with pytest.raises(InputError, match="cannot be sent to another process"):
        TorchrunEvaluator(lambda candidate, epochs, seed: None, 2)(CANDIDATE, 2, 0)


def test_the_command_starts_this_module_on_one_thread_for_each_process(monkeypatch, tmp_path):
    started = {}

    class Child:
        def __init__(self, command, env, stdin, stdout, stderr):
            started.update(command=command, env=env, stdin=stdin)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self, limit):
            started.update(limit=limit)
            return 7

    monkeypatch.setattr(torchrun.subprocess, "Popen", Child)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    assert TorchrunEvaluator(Trains(), 3)._run(tmp_path / "job", tmp_path / "log") == 7
    assert started["command"][:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert "--nproc-per-node=3" in started["command"]
    assert started["command"][-3:] == ["-m", "fbnetv3.search.execution.torchrun", str(tmp_path / "job")]
    assert started["env"]["OMP_NUM_THREADS"] == "1"
    assert started["env"]["PYTHONPATH"] == f"{os.getcwd()}:/somewhere"  # noqa: PTH109
    assert started["stdin"] is subprocess.PIPE  # its end tells the processes that this one died
    assert started["limit"] is None


@pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "hangs"])
def test_after_the_time_limit_torchrun_is_stopped(monkeypatch, tmp_path, obeys):
    """Torchrun has time to stop its processes, before it is killed."""
    done = []

    class Child:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            done.append("waited")

        def wait(self, limit):
            done.append(limit)
            if limit == 2.5 or not obeys:
                raise subprocess.TimeoutExpired("torchrun", limit)

        def terminate(self):
            done.append("terminated")

        def kill(self):
            done.append("killed")

    monkeypatch.setattr(torchrun.subprocess, "Popen", Child)
    with pytest.raises(TimeoutError, match=r"it was not ready after the time limit of 2\.5 seconds"):
        TorchrunEvaluator(Trains(), 2, limit=2.5)._run(tmp_path / "job", tmp_path / "log")
    assert done == [2.5, "terminated", torchrun.GRACE, *([] if obeys else ["killed"]), "waited"]


@pytest.fixture
def member(monkeypatch, tmp_path):
    """Run the process of rank 3 in this process: (evaluator) -> its result, and the codes with which it would have ended."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torchrun, "_die_with_parent", lambda: None)  # it would read the input of the tests
    codes = []
    monkeypatch.setattr(torchrun.os, "_exit", codes.append)

    def run(evaluator):
        job = tmp_path / "job"
        job.write_bytes(pickle.dumps((pickle.dumps(evaluator), Job(CANDIDATE, 2, 0))))
        torchrun.main(job)
        return pickle.loads((tmp_path / "outcome.3").read_bytes()), codes

    return run


def test_a_process_writes_its_outcome(member):
    assert member(Answers(OK)) == (OK, [])


@pytest.mark.parametrize("answer", [DIVERGED, FAILED], ids=["diverged", "failed"])
def test_a_process_without_success_ends_the_others(member, answer):
    assert member(Answers(answer)) == (answer, [1])


def test_a_process_that_raises_fails(member):
    result, codes = member(Answers(ValueError("no luck")))
    assert (result.status, result.error, codes) == ("failed", "ValueError: no luck", [1])


def test_a_process_passes_a_mistake_of_the_user_on(member):
    result, codes = member(Answers(MISTAKE))
    assert isinstance(result, InputError)
    assert (str(result), codes) == ("no such data; give other data", [1])


def test_a_process_takes_its_own_gpu(member, monkeypatch):
    chosen, groups = [], []

    class Group:
        def __init__(self, device):
            groups.append(str(device))

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torchrun.torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torchrun, "process_group", Group)
    evaluator = Answers(OK)
    evaluator.device = "cuda"
    assert member(evaluator) == (OK, [])
    assert (chosen, groups) == ([3], ["cuda"])


def test_a_process_dies_when_its_input_ends(monkeypatch):
    parts, codes = [b"x", b"y", b""], []
    replaced = SimpleNamespace(read=lambda descriptor, size: parts.pop(0), _exit=codes.append)
    monkeypatch.setattr(torchrun, "os", replaced)
    torchrun._die_with_parent()
    assert (parts, codes) == ([], [1])


@pytest.mark.slow
def test_two_processes_train_one_candidate():
    first = outcome("train")
    assert first.status == "ok", first.error
    assert first.acc1[-1] == 2.0
    assert len(first.acc1) == 2
    assert outcome("train") == first


@pytest.mark.slow
def test_one_process_that_diverges_or_raises_ends_all():
    """The other process waits in a sum that never comes."""
    assert (outcome("diverge").status, outcome("diverge").acc1) == ("diverged", ())
    assert (outcome("raise").status, outcome("raise").error) == ("failed", "ValueError: no luck")


@pytest.mark.slow
def test_a_mistake_and_a_disagreement_of_real_processes():
    with pytest.raises(InputError, match="no such data"):
        outcome("mistake")
    assert "the processes disagree" in outcome("disagree").error


@pytest.mark.slow
def test_processes_that_hang_are_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the commands of the processes name a file there
    found = outcome("hang", limit=20.0)
    assert (found.status, found.error) == ("failed", f"TimeoutError: {LATE.format(20.0)}")
    assert found.seconds < 70
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert os.fsencode(tmp_path) not in command.read_bytes()
