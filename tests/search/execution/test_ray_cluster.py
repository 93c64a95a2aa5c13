"""Jobs on a Ray cluster. Most tests replace Ray by an object in this process; the slow ones start a cluster."""

import logging
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import DIED, Job
from fbnetv3.search.execution.memory import BrokenDeviceError
from fbnetv3.search.execution.processes import RETRIES
from fbnetv3.search.execution.settings import ExecutorSettings
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
    MISTAKE,
    RAISE,
    SLEEP,
    Acts,
    Unreadable,
    jobs,
    wait_until_gone,
)

ray = pytest.importorskip("ray", reason="Ray is not installed")
from fbnetv3.search.execution import ray_cluster  # noqa: E402  # needs Ray
from fbnetv3.search.execution.ray_cluster import RayExecutor  # noqa: E402

OK = Outcome((50.0,), "ok", 0.0)
LOST = ray.exceptions.WorkerCrashedError
JOBS = {f"job {seed}": Job(None, 1, seed) for seed in range(6)}


class Task:
    """A task of the object below: a reference, as Ray gives one."""

    def __init__(self, function, seed):
        self.function, self.seed = function, seed


class FakeRay:
    """Ray in this process: a task runs when its result is asked for. `acts` are functions by seed that replace the outcome."""

    cloudpickle = ray.cloudpickle

    def __init__(self):
        self.acts, self.joined, self.calls, self.options = {}, False, [], {}
        self.running, self.most, self.cancelled, self.started = [], 0, [], []
        self.resources = [{"CPU": 2.0, "GPU": 1.0}]
        self.refuses = None

    def is_initialized(self):
        return self.joined

    def init(self, address, **settings):
        self.calls.append(("init", address, settings))
        if self.refuses:
            raise self.refuses
        self.joined = True

    def shutdown(self):
        self.calls.append(("shutdown",))
        self.joined = False

    def nodes(self):
        return [{"Alive": True, "Resources": node} for node in self.resources] + [{"Alive": False, "Resources": {}}]

    def put(self, value):
        return value

    def remote(self, **given):
        self.options = given
        return self.task_of

    def task_of(self, function):
        def task(evaluator, job):
            made = Task(lambda: function(evaluator, job), job.seed)
            self.started.append(job.seed)
            self.running.append(made)
            self.most = max(self.most, len(self.running))
            return made

        return SimpleNamespace(remote=task)

    def wait(self, tasks):
        return [tasks[0]], tasks[1:]

    def get(self, task):
        self.running.remove(task)
        act = self.acts.get(task.seed)
        return act() if act else task.function()

    def cancel(self, task, force):
        assert force
        self.cancelled.append(task.seed)


@pytest.fixture
def fake(monkeypatch):
    made = FakeRay()
    monkeypatch.setattr(ray_cluster, "ray", made)
    return made


def evaluator(candidate, epochs, seed):
    return Outcome((float(seed),), "ok", 0.0)


def raises(error):
    def act():
        raise error

    return act


def dies(times):
    """The worker of a task dies so many times; then the task succeeds."""
    left = iter(range(times))

    def act():
        if next(left, None) is not None:
            raise LOST
        return OK

    return act


def test_every_job_runs_once(fake):
    with RayExecutor(evaluator) as executor:
        found = list(executor.run(JOBS))
    assert dict(found) == {key: Outcome((float(job.seed),), "ok", 0.0) for key, job in JOBS.items()}
    assert sorted(fake.started) == list(range(6))


def test_no_jobs_have_no_outcomes(fake):
    with RayExecutor(evaluator) as executor:
        assert list(executor.run({})) == []


def test_the_cluster_knows_of_few_tasks_at_a_time(fake):
    with RayExecutor(evaluator, in_flight=2) as executor:
        assert len(list(executor.run(JOBS))) == 6
    assert fake.most == 2


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_jobs_are_taken_one_by_one_as_outcomes_are_yielded(fake, tmp_path, at_once):
    with RayExecutor(Acts(str(tmp_path))) as executor:
        check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(executor, tmp_path, at_once, *range(CALL + 2, CALL + 8))


def test_a_job_that_is_repeated_keeps_its_place_among_those_at_once(fake):
    fake.acts[0] = dies(2)
    with RayExecutor(evaluator) as executor:
        assert [key for key, _ in executor.run(JOBS.items(), at_once=1)] == list(JOBS)
    assert fake.most == 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_job_whose_worker_died_is_repeated_before_the_others(fake, times):
    fake.acts[0] = dies(times)
    with RayExecutor(evaluator, in_flight=1, retries=3) as executor:
        found = dict(executor.run(JOBS))
    assert found["job 0"] == OK
    assert fake.started == [0] * times + [0, 1, 2, 3, 4, 5]


def test_a_job_whose_worker_always_dies_fails(fake):
    fake.acts[2] = raises(LOST())
    with RayExecutor(evaluator, retries=3) as executor:
        found = dict(executor.run(JOBS))
    assert (found["job 2"].status, found["job 2"].acc1, found["job 2"].error) == ("failed", (), DIED)
    assert fake.started.count(2) == 4
    assert all(outcome.status == "ok" for key, outcome in found.items() if key != "job 2")


@pytest.mark.parametrize(
    "death",
    [
        LOST(),
        ray.exceptions.NodeDiedError("node 1 died"),
        ray.exceptions.LocalRayletDiedError(),
        ray.exceptions.OutOfMemoryError("full"),
        ray.exceptions.ObjectLostError("00", None, ""),
    ],
    ids=lambda death: type(death).__name__,
)
def test_what_the_cluster_does_to_a_task_is_a_death(fake, death, caplog):
    fake.acts[1] = raises(death)
    with RayExecutor(evaluator, retries=0) as executor:
        assert dict(executor.run(JOBS))["job 1"].error == DIED
    assert "a trial's worker or node was lost: " in caplog.text


def test_a_mistake_of_the_user_ends_the_search(fake):
    mistake = InputError("no such data; give other data")
    fake.acts[1] = raises(ray.exceptions.RayTaskError("evaluate_pickled", "the traceback", mistake))
    with pytest.raises(InputError, match=r"^no such data; give other data$"), RayExecutor(evaluator) as executor:
        list(executor.run(JOBS))


def test_a_node_that_cannot_run_trials_ends_the_search(fake):
    cause = ModuleNotFoundError("No module named 'fbnetv3'")
    fake.acts[1] = raises(ray.exceptions.RayTaskError("evaluate_pickled", "the traceback", cause))
    words = "a node cannot run trials: No module named 'fbnetv3'; every node needs the same fbnetv3"
    with pytest.raises(InputError, match=words), RayExecutor(evaluator) as executor:
        list(executor.run(JOBS))


def test_an_exception_stops_running_tasks(fake):
    with pytest.raises(KeyboardInterrupt), RayExecutor(evaluator, in_flight=3) as executor:  # noqa: PT012
        next(executor.run(JOBS))
        raise KeyboardInterrupt
    assert fake.cancelled == [1, 2]
    assert fake.calls[-1] == ("shutdown",)


def test_a_cluster_that_was_joined_before_is_not_left(fake):
    fake.joined = True
    with RayExecutor(evaluator) as executor:
        list(executor.run(JOBS))
    assert fake.calls == []


def test_a_task_reserves_what_it_is_given_and_is_not_repeated_by_ray(fake):
    with RayExecutor(evaluator, cpus=4, gpus=0.5):
        pass
    assert fake.options == {
        "num_cpus": 4,
        "num_gpus": 0.5,
        "max_retries": 0,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},
    }


def test_a_local_cluster_has_the_processors_of_this_process(fake, monkeypatch):
    monkeypatch.setattr(ray_cluster, "available_workers", lambda: 5)
    with RayExecutor(evaluator, "local"):
        pass
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    assert fake.calls[0] == ("init", "local", quiet | {"num_cpus": 5, "include_dashboard": False})


def test_another_cluster_has_its_own_processors(fake):
    with RayExecutor(evaluator, "host:6379"):
        pass
    assert fake.calls[0] == ("init", "host:6379", {"log_to_driver": False, "logging_level": logging.WARNING})


@pytest.mark.parametrize("error", [ConnectionError, ValueError, RuntimeError])
def test_no_cluster_is_one_clear_line(fake, error):
    fake.refuses = error("nobody answers\nat all")
    words = r"^no Ray cluster at 'host:1': nobody answers; start one with `ray start --head`, or give HOST:PORT, auto or local$"
    with pytest.raises(InputError, match=words):
        RayExecutor(evaluator, "host:1")


def test_a_start_that_fails_leaves_the_cluster(fake):
    def full(value):
        raise MemoryError

    fake.put = full
    with pytest.raises(MemoryError):
        RayExecutor(evaluator)
    assert fake.calls[-1] == ("shutdown",)


def test_an_evaluator_that_cannot_be_sent_joins_nothing(fake):
    with pytest.raises(InputError, match="cannot be sent to another process"):
        RayExecutor(SimpleNamespace(lock=threading.Lock()))
    assert fake.calls == []


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        ({"cpus": 2, "gpus": 1}, None),
        ({"cpus": 4}, "has 4 CPU: the"),
        ({"cpus": 3, "gpus": 2}, "has 3 CPU, 2 GPU: the"),
    ],
    ids=["room", "processors", "both"],
)
def test_a_task_that_no_node_has_room_for_is_a_warning(fake, caplog, needed, words):
    with RayExecutor(evaluator, **needed) as executor:
        assert len(list(executor.run(JOBS))) == 6
    if words:
        assert f"no node of the cluster {words} search waits until one joins" in caplog.text
    else:
        assert caplog.text == ""


def test_a_job_with_a_time_limit_runs_in_another_process_of_its_worker(fake, monkeypatch):
    asked = []
    monkeypatch.setattr(ray_cluster, "evaluate_within", lambda *arguments: asked.append(arguments) or OK)
    with RayExecutor(evaluator, limit=7.5) as executor:
        assert set(dict(executor.run(JOBS)).values()) == {OK}
    assert [(limit, job.seed) for limit, _, job in asked] == [(7.5, seed) for seed in range(6)]


def test_the_outcome_of_a_training_that_broke_its_gpu_is_kept(fake):
    failed = Outcome((), "failed", 1.0, "RuntimeError: CUDA error: device-side assert triggered")
    fake.acts[1] = raises(ray.exceptions.RayTaskError("evaluate_pickled", "the traceback", BrokenDeviceError(failed)))
    with RayExecutor(evaluator) as executor:
        found = dict(executor.run(JOBS))
    assert found["job 1"] == failed
    assert fake.started == list(range(6))


class Sees:
    """Trains on GPUs: notes its process and answers with the GPU that it sees. One of its jobs breaks the GPU."""

    device = "cuda"

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, candidate, epochs, seed):
        time.sleep(0.5)
        Path(self.folder, f"{seed}.0.{os.getpid()}").touch()
        if seed == RAISE:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return Outcome((float(os.environ["CUDA_VISIBLE_DEVICES"]),) * epochs, "ok", 0.0)


@pytest.fixture
def pretended_gpus():
    """A cluster of this process that believes in two GPUs."""
    ray.init("local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 60.0], ids=["", "within a time limit"])
def test_trials_share_the_gpus_of_a_cluster_and_leave_nothing_on_them(pretended_gpus, tmp_path, limit):
    """Each process ends with its trial, because Ray cannot free what a process keeps on a GPU."""
    settings = ExecutorSettings("ray", workers=4, trials_per_gpu=2, trial_timeout=limit)
    with settings.start(Sees(str(tmp_path))) as executor:
        found = dict(executor.run(jobs(*range(8), RAISE)))
    broken = found.pop(f"job {RAISE}")
    assert (broken.status, broken.error) == ("failed", "RuntimeError: CUDA error: device-side assert triggered")
    seen = [outcome.acc1[0] for outcome in found.values()]
    assert set(seen) == {0.0, 1.0}
    assert len(wait_until_gone(tmp_path)) == 9


def local(evaluator):
    return RayExecutor(evaluator, "local", in_flight=2, retries=RETRIES)


@pytest.mark.slow
def test_a_cluster_runs_every_job_once(tmp_path):
    with local(Acts(str(tmp_path))) as executor:
        check_every_job_runs_once_and_exceptions_are_outcomes(executor, tmp_path)
    assert len(wait_until_gone(tmp_path)) == 2


@pytest.mark.slow
def test_a_cluster_takes_jobs_one_by_one(tmp_path):
    with local(Acts(str(tmp_path))) as executor:
        seeds = CALL + 1, DIE_ONCE + 2, *range(CALL + 3, CALL + 7)
        check_jobs_are_taken_one_by_one_as_outcomes_are_yielded(executor, tmp_path, 2, *seeds)
    wait_until_gone(tmp_path)


@pytest.mark.slow
def test_a_cluster_charges_a_death_to_the_job_that_ran(tmp_path):
    with local(Acts(str(tmp_path))) as executor:
        check_a_death_is_charged_to_the_job_that_ran(executor, tmp_path, RETRIES)
    wait_until_gone(tmp_path)


@pytest.mark.slow
def test_a_training_that_hangs_on_a_cluster_fails(tmp_path):
    with RayExecutor(Acts(str(tmp_path)), "local", in_flight=1, limit=4.0) as executor:
        check_a_training_that_hangs_fails_and_the_next_one_runs(executor, tmp_path, 4.0)


@pytest.mark.slow
def test_a_mistake_ends_the_search_on_a_cluster(tmp_path):
    mistake = pytest.raises(InputError, match=r"^no such data; give other data$")
    with mistake, local(Acts(str(tmp_path))) as executor:
        list(executor.run(jobs(CALL + 1, MISTAKE + 2, *range(SLEEP, SLEEP + 9))))
    wait_until_gone(tmp_path)


@pytest.mark.slow
def test_ctrl_c_stops_the_tasks_of_a_cluster(tmp_path):
    executor = local(Acts(str(tmp_path)))
    with pytest.raises(KeyboardInterrupt), executor:  # noqa: PT012
        next(executor.run(jobs(CALL + 1, *range(SLEEP, SLEEP + 9))))
        raise KeyboardInterrupt
    wait_until_gone(tmp_path)


@pytest.mark.slow
def test_an_evaluator_that_a_node_cannot_read_is_one_clear_line():
    unreadable = pytest.raises(InputError, match="cannot read the evaluator: KeyError")
    with unreadable, local(Unreadable()) as executor:
        list(executor.run(jobs(1)))
