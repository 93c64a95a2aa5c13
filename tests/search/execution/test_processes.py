"""Jobs on processes of this machine: each runs once, a death is charged to its job, and no process outlives the pool."""

import multiprocessing
import os
import signal
import subprocess
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution import processes
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.processes import (
    RETRIES,
    ProcessPool,
    _descendants,
    available_workers,
    evaluate_within,
    start_worker,
)
from fbnetv3.search.execution.serialise import pickled
from fbnetv3.search.trial import Outcome
from tests.search.execution.contract import (
    check_a_death_is_charged_to_the_job_that_ran,
    check_a_training_that_hangs_fails_and_the_next_one_runs,
    check_every_job_runs_once_and_exceptions_are_outcomes,
    check_jobs_are_taken_one_by_one_as_outcomes_are_yielded,
)
from tests.search.execution.jobs import (
    CALL,
    DIE_ONCE,
    HANG,
    MISTAKE,
    RAISE,
    SLEEP,
    Acts,
    Unreadable,
    alive,
    answer,
    calls,
    done,
    jobs,
    wait_until_gone,
)

VISIBLE_AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A pool of two processes, and the folder where its evaluator notes calls. At the end no process is left."""
    folder = tmp_path_factory.mktemp("pool")
    with ProcessPool(Acts(str(folder)), 2) as pool:
        yield pool, folder
    wait_until_gone(folder)


def pids(folder):
    return {int(path.suffix[1:]) for path in folder.iterdir()}


def test_every_job_runs_once_on_one_thread_and_exceptions_are_outcomes(pool):
    check_every_job_runs_once_and_exceptions_are_outcomes(*pool)
    assert len(pids(pool[1])) == 2
    assert os.getpid() not in pids(pool[1])


def test_a_slow_consumer_leaves_no_worker_idle_and_loses_nothing(pool):
    executor, folder = pool
    seeds = range(CALL + 31, CALL + 39)
    run = executor.run(jobs(*seeds))
    first = [next(run)]
    for _ in range(200):
        if sum(calls(folder, seed) for seed in seeds) == 8:
            break
        time.sleep(0.05)
    assert sum(calls(folder, seed) for seed in seeds) == 8  # all have started although one outcome was taken
    assert dict(first + list(run)) == {f"job {seed}": done(folder, seed) for seed in seeds}


def test_a_death_is_charged_to_the_job_that_ran(pool):
    check_a_death_is_charged_to_the_job_that_ran(*pool, RETRIES)


def test_jobs_are_taken_one_by_one_as_outcomes_are_yielded(pool):
    seeds = CALL + 21, DIE_ONCE + 2, *range(CALL + 22, CALL + 26)
    check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(*pool, 2, *seeds)


def test_fewer_jobs_than_processes_may_be_taken(pool):
    check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(*pool, 1, *range(CALL + 27, CALL + 30))


def test_a_mistake_of_the_user_ends_the_search_at_once(tmp_path):
    start = time.monotonic()
    with (
        pytest.raises(InputError, match=r"^no such data; give other data$"),
        ProcessPool(Acts(str(tmp_path)), 2) as executor,
    ):
        list(executor.run(jobs(CALL + 1, MISTAKE + 2, *range(SLEEP, SLEEP + 9))))
    assert time.monotonic() - start < 40
    wait_until_gone(tmp_path)


def test_ctrl_c_stops_running_jobs_and_no_process_of_the_caller(tmp_path, monkeypatch):
    """One job hangs: it does not react to SIGTERM, and it has started a process."""
    monkeypatch.setattr(processes, "GRACE", 1.0)
    start = time.monotonic()
    own = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(120,))
    own.start()
    try:
        executor = ProcessPool(Acts(str(tmp_path)), 1)
        with pytest.raises(KeyboardInterrupt), executor:  # noqa: PT012
            next(executor.run(jobs(CALL + 1, HANG + 1, *range(SLEEP, SLEEP + 9))))
            while not list(tmp_path.glob("701.child.*")):
                time.sleep(0.05)
            raise KeyboardInterrupt
        assert time.monotonic() - start < 40
        assert len(wait_until_gone(tmp_path)) == 2
        assert alive(own.pid)
    finally:
        own.kill()
        own.join()


def test_an_evaluator_that_cannot_be_sent_is_refused():
    with pytest.raises(InputError, match="cannot be sent to another process"):
        ProcessPool(lambda candidate, epochs, seed: None, 2)


def test_an_evaluator_that_a_process_cannot_read_is_one_clear_line():
    with (
        pytest.raises(
            InputError, match="another process cannot read the evaluator: KeyError: 'lost'; define it at the top"
        ),
        ProcessPool(Unreadable(), 1) as executor,
    ):
        list(executor.run(jobs(1)))


def test_one_process_runs_all_jobs(tmp_path):
    with ProcessPool(Acts(str(tmp_path)), 1) as executor:
        check_every_job_runs_once_and_exceptions_are_outcomes(executor, tmp_path)
    assert len(wait_until_gone(tmp_path)) == 1


def test_a_training_that_hangs_fails_and_the_next_one_runs(tmp_path):
    with ProcessPool(Acts(str(tmp_path)), 1, limit=4.0) as executor:
        check_a_training_that_hangs_fails_and_the_next_one_runs(executor, tmp_path, 4.0)


def test_another_process_may_run_a_job_within_a_time_limit(tmp_path):
    """This is what a worker of Ray does. The process is kept for the next job."""
    evaluator = pickled(Acts(str(tmp_path)))
    try:
        for seed in (CALL + 1, CALL + 2):
            assert evaluate_within(60.0, evaluator, Job(None, 2, seed)) == done(tmp_path, seed)
        assert len(pids(tmp_path)) == 1
        assert os.getpid() not in pids(tmp_path)
    finally:
        with processes._pool(evaluator, 60.0):
            processes._pool.cache_clear()
    wait_until_gone(tmp_path)


def test_the_processes_that_a_process_started_are_found():
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    sleep = int(shell.stdout.readline())
    try:
        assert sorted(_descendants(shell.pid)) == [sleep]
        assert {shell.pid, sleep} <= set(_descendants(os.getpid()))
    finally:
        os.kill(sleep, signal.SIGKILL)
        shell.communicate()
    assert _descendants(shell.pid) == []


def test_processes_that_cannot_start_are_no_failed_trainings(monkeypatch):
    tries = []

    def broken(pool, place, function, *arguments, limit=None):
        tries.append(function)
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPool, "_call", broken)
    words = r"worker processes cannot start: .*if __name__ == \"__main__\".*use fewer workers"
    with pytest.raises(InputError, match=words), ProcessPool(Acts(""), 1, retries=2) as executor:
        list(executor.run(jobs(CALL + 1)))
    assert tries == [os.getpid] * 3


def test_nothing_starts_once_the_pool_has_stopped():
    with ProcessPool(Acts(""), 1) as executor:
        pass
    with pytest.raises(CancelledError):
        executor._call(0, os.getpid)


@pytest.fixture
def worker(monkeypatch):
    """The start of a worker process, without effects on this process. Holds its threads, signals, and what it did in order."""
    seen = SimpleNamespace(threads=[], signals={}, order=[])

    class Thread:
        def __init__(self, target, daemon):
            self.target, self.daemon = target, daemon

        def start(self):
            seen.threads.append(self)

    driver = SimpleNamespace(join=lambda: seen.order.append("the driver ended"))
    handled = SimpleNamespace(SIGINT=signal.SIGINT, SIG_IGN=signal.SIG_IGN, signal=seen.signals.__setitem__)
    monkeypatch.setattr(processes, "threading", SimpleNamespace(Thread=Thread))
    monkeypatch.setattr(processes, "signal", handled)
    monkeypatch.setattr(processes, "os", SimpleNamespace(_exit=seen.order.append))
    monkeypatch.setattr(processes, "multiprocessing", SimpleNamespace(parent_process=lambda: driver))
    start_worker()
    return seen


def test_a_worker_dies_with_its_driver(worker):
    (thread,) = worker.threads
    assert thread.daemon  # a worker that is stopped does not wait for it
    assert worker.order == []
    thread.target()
    assert worker.order == ["the driver ended", 1]


def test_a_worker_leaves_ctrl_c_to_its_driver(worker):
    assert worker.signals == {signal.SIGINT: signal.SIG_IGN}


def test_the_workers_are_as_many_as_processors_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert available_workers() == 3


@pytest.mark.parametrize(("count", "workers"), [(8, 8), (None, 1)])
def test_where_a_process_has_no_processors_of_its_own_all_count(monkeypatch, count, workers):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert available_workers() == workers


class Sees:
    """Answers with the GPUs that its process saw before it imported this module, as far as they are numbers."""

    def __call__(self, candidate, epochs, seed):
        time.sleep(0.3)  # both processes get work
        return Outcome((float(VISIBLE_AT_IMPORT), float(os.environ["CUDA_VISIBLE_DEVICES"])), "ok", 0.0)


class Breaks:
    """Notes the process of each call; a job of the hundreds of `RAISE` leaves the GPU unusable in it."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, candidate, epochs, seed):
        Path(self.folder, f"{seed}.0.{os.getpid()}").touch()
        if seed >= RAISE:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return answer(seed)


def test_each_process_sees_its_own_gpu_from_its_start(monkeypatch):
    """A module may ask for GPUs when it is imported, which is before the process gets its first job."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    places = [{"CUDA_VISIBLE_DEVICES": name} for name in ("3", "5")]
    with ProcessPool(Sees(), 3, places=places) as executor:
        found = [outcome.acc1 for _, outcome in executor.run(jobs(*range(9)))]
    assert set(found) == {(3.0, 3.0), (5.0, 5.0)}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_a_process_whose_gpu_is_broken_ends_and_the_next_job_gets_another(tmp_path):
    with ProcessPool(Breaks(str(tmp_path)), 1) as executor:
        found = dict(executor.run(jobs(CALL + 1, RAISE + 1, CALL + 2)))
    broken = found.pop("job 101")
    assert (broken.status, broken.error) == ("failed", "RuntimeError: CUDA error: device-side assert triggered")
    assert found == {"job 1": done(tmp_path, 1), "job 2": done(tmp_path, 2)}
    assert calls(tmp_path, RAISE + 1) == 1  # it is not repeated
    first, second, third = (int(next(tmp_path.glob(f"{seed}.*")).suffix[1:]) for seed in (1, 101, 2))
    assert first == second != third
