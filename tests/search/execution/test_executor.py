"""One contract for every executor: each job once, failures as outcomes, deaths charged to whom they belong, no leftovers."""

import os
import time
from pathlib import Path

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import DIED, InProcess
from fbnetv3.search.execution.processes import RETRIES, ProcessPool
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.trial import Outcome
from tests.search.execution.jobs import CALL, DIE, DIE_ONCE, MISTAKE, RAISE, SLEEP, Acts, Unreadable


def ray_executor(evaluator):
    pytest.importorskip("ray", reason="Ray is not installed")
    from fbnetv3.search.execution.ray_cluster import RayExecutor

    return RayExecutor(evaluator, "local", in_flight=2, retries=RETRIES)


EXECUTORS = {
    "here": InProcess,
    "pool1": lambda evaluator: ProcessPool(evaluator, 1),
    "pool2": lambda evaluator: ProcessPool(evaluator, 2),
    "ray": ray_executor,
}
MARKED = [pytest.param(name, marks=pytest.mark.slow) if name == "ray" else name for name in EXECUTORS]
ELSEWHERE = [name for name in MARKED if name not in ("here", "pool1")]


def jobs(*seeds):
    return {f"job {seed}": (None, 1, seed) for seed in seeds}


def calls(folder, seed):
    return len(list(folder.glob(f"{seed}.*")))


def done(folder, seed):
    assert calls(folder, seed) == 1
    return Outcome((float(seed), 1.0), "ok", 0.0)


def wait_until_gone(folder):
    """The processes that ran jobs end."""
    pids = {int(path.suffix[1:]) for path in folder.iterdir()} - {os.getpid()}
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return pids
        time.sleep(0.05)
    raise AssertionError(f"{pids} outlived their executor")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", MARKED)
def test_every_job_once_on_one_thread_and_exceptions_are_outcomes(tmp_path, name):
    seeds = [CALL + 1, CALL + 2, RAISE + 3, *range(CALL + 4, CALL + 20)]
    with EXECUTORS[name](Acts(str(tmp_path))) as executor:
        assert list(executor.run({})) == []
        found = list(executor.run(jobs(*seeds)))
        again = dict(executor.run(jobs(CALL + 50)))
    assert len(found) == len(seeds)
    outcomes = dict(found)
    failed = outcomes.pop("job 103")
    assert (failed.acc1, failed.status, failed.error) == ((), "failed", "ValueError: no luck with 103 at all")
    assert outcomes == {f"job {seed}": done(tmp_path, seed) for seed in seeds if seed != RAISE + 3}
    assert again == {"job 50": done(tmp_path, 50)}
    assert len(wait_until_gone(tmp_path)) == {"here": 0, "pool1": 1}.get(name, 2)


@pytest.mark.parametrize("name", MARKED)
def test_a_mistake_of_configuration_ends_the_search(tmp_path, name):
    start = time.monotonic()
    with (
        pytest.raises(InputError, match=r"^no such data; give other data$"),
        EXECUTORS[name](Acts(str(tmp_path))) as executor,
    ):
        list(executor.run(jobs(CALL + 1, MISTAKE + 2, *range(SLEEP, SLEEP + 9))))
    assert time.monotonic() - start < 40
    wait_until_gone(tmp_path)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_death_is_charged_to_the_job_that_ran(tmp_path, name):
    """A job that always dies is tried three times; its neighbours, running and queued, lose nothing."""
    seeds = [CALL + 1, DIE + 2, DIE_ONCE + 3, *range(CALL + 4, CALL + 14)]
    with EXECUTORS[name](Acts(str(tmp_path))) as executor:
        outcomes = dict(executor.run(jobs(*seeds)))
    died = outcomes.pop("job 302")
    assert (died.acc1, died.status, died.error) == ((), "failed", DIED)
    assert calls(tmp_path, DIE + 2) == 1 + RETRIES
    assert outcomes.pop("job 403") == Outcome((403.0, 1.0), "ok", 0.0)
    assert calls(tmp_path, DIE_ONCE + 3) == 2
    assert outcomes == {f"job {seed}": done(tmp_path, seed) for seed in seeds[3:] + seeds[:1]}
    wait_until_gone(tmp_path)


@pytest.mark.parametrize("name", ["pool2"])
def test_a_slow_consumer_leaves_no_worker_idle_and_loses_nothing(tmp_path, name):
    with EXECUTORS[name](Acts(str(tmp_path))) as executor:
        run = executor.run(jobs(*range(CALL + 1, CALL + 9)))
        first = [next(run)]
        for _ in range(200):
            if len(list(tmp_path.iterdir())) == 8:
                break
            time.sleep(0.05)
        assert len(list(tmp_path.iterdir())) == 8  # all have begun although one outcome was taken
        assert dict(first + list(run)) == {f"job {seed}": done(tmp_path, seed) for seed in range(1, 9)}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_ctrl_c_stops_what_runs(tmp_path, name):
    start = time.monotonic()
    executor = EXECUTORS[name](Acts(str(tmp_path)))
    with pytest.raises(KeyboardInterrupt), executor:  # noqa: PT012
        next(executor.run(jobs(CALL + 1, *range(SLEEP, SLEEP + 9))))
        raise KeyboardInterrupt
    assert time.monotonic() - start < 40
    wait_until_gone(tmp_path)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_evaluator_that_cannot_travel_is_one_clear_line(name):
    if name != "ray":
        with pytest.raises(InputError, match="cannot be sent to another process"):
            EXECUTORS[name](lambda candidate, epochs, seed: None)
    with (
        pytest.raises(InputError, match="cannot read the evaluator: KeyError"),
        EXECUTORS[name](Unreadable()) as executor,
    ):
        list(executor.run(jobs(1)))


def test_execution_is_checked():
    with pytest.raises(InputError, match="the executor is 'slurm'; allowed: processes, ray"):
        ExecutorSettings("slurm")
    with pytest.raises(InputError, match="settings of Ray; give --executor ray too"):
        ExecutorSettings(gpus=1.0)
    assert isinstance(ExecutorSettings(workers=1).start(Acts("")), InProcess)


@pytest.mark.slow
def test_no_cluster_is_one_clear_line():
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto': .*; begin one with `ray start --head`"):
        ExecutorSettings("ray").start(Acts(""))
