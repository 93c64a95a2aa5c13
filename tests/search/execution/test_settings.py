"""Which executor given settings mean."""

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.search.execution import settings
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.execution.settings import THIS_MACHINE, ExecutorSettings
from fbnetv3.search.execution.torchrun import TorchrunEvaluator
from tests.search.execution.jobs import Acts

ACTS = Acts("")


@pytest.fixture
def processors(monkeypatch):
    """A machine of 8 processors, and pools that only say how many workers they have."""
    monkeypatch.setattr(settings, "available_workers", lambda: 8)
    monkeypatch.setattr(
        settings, "ProcessPool", lambda evaluator, workers, limit, places: ("pool", evaluator, workers, limit)
    )


def test_an_unknown_executor_is_refused():
    with pytest.raises(InputError, match="the executor is 'slurm'; allowed: processes, ray"):
        ExecutorSettings("slurm")


@pytest.mark.parametrize("given", [{"gpus": 1.0}, {"cpus": 2.0}, {"address": "auto"}])
def test_settings_of_ray_are_for_ray_alone(given):
    with pytest.raises(InputError, match="settings of Ray; give --executor ray too"):
        ExecutorSettings(**given)
    assert ExecutorSettings("ray", **given).kind == "ray"


def test_one_worker_is_this_process():
    executor = ExecutorSettings(workers=1).start(ACTS)
    assert isinstance(executor, InProcess)
    assert executor.evaluator is ACTS


def test_several_workers_are_processes():
    with ExecutorSettings(workers=2).start(ACTS) as executor:
        assert isinstance(executor, ProcessPool)
        assert len(executor._pools) == 2


def test_by_default_there_is_a_worker_for_every_processor(processors):
    assert THIS_MACHINE.start(ACTS) == ("pool", ACTS, 8, None)


@pytest.mark.parametrize(("processes", "workers"), [(2, 4), (3, 2), (5, 1), (20, 1)])
def test_processes_that_train_together_share_the_processors(processors, processes, workers):
    executor = ExecutorSettings().start(ACTS, processes)
    wrapped = TorchrunEvaluator(ACTS, processes)
    if workers == 1:
        assert isinstance(executor, InProcess)
        assert executor.evaluator == wrapped
    else:
        assert executor == ("pool", wrapped, workers, None)


def test_a_given_number_of_workers_is_kept_whatever_they_start(processors):
    assert ExecutorSettings(workers=6).start(ACTS, 4) == ("pool", TorchrunEvaluator(ACTS, 4), 6, None)


@pytest.fixture
def ray_calls(monkeypatch):
    """The arguments of the Ray executor, which does not start."""
    pytest.importorskip("ray", reason="Ray is not installed")
    calls = []
    monkeypatch.setattr(
        "fbnetv3.search.execution.ray_cluster.RayExecutor",
        lambda evaluator, address, **given: calls.append((evaluator, address, given)),
    )
    return calls


def test_ray_reserves_one_processor_for_a_trial(ray_calls):
    ExecutorSettings("ray").start(ACTS)
    assert ray_calls == [(ACTS, "auto", {"cpus": 1, "gpus": 0, "in_flight": 256, "limit": None})]


def test_ray_reserves_a_processor_for_every_process_of_a_trial(ray_calls):
    ExecutorSettings("ray").start(ACTS, 4)
    assert ray_calls == [(TorchrunEvaluator(ACTS, 4), "auto", {"cpus": 4, "gpus": 0, "in_flight": 256, "limit": None})]


def test_ray_gets_the_given_settings(ray_calls):
    ExecutorSettings("ray", workers=3, address="host:1", cpus=0.5, gpus=0.25).start(ACTS, 2)
    assert ray_calls[0][1:] == ("host:1", {"cpus": 0.5, "gpus": 0.25, "in_flight": 3, "limit": None})


def test_a_time_limit_needs_processes_that_can_be_killed(processors):
    assert ExecutorSettings(workers=1, trial_timeout=9.5).start(ACTS) == ("pool", ACTS, 1, 9.5)
    assert ExecutorSettings(trial_timeout=9.5).start(ACTS) == ("pool", ACTS, 8, 9.5)


def test_torchrun_stops_its_processes_itself(processors):
    here = ExecutorSettings(workers=1, trial_timeout=9.5).start(ACTS, 2)
    assert isinstance(here, InProcess)
    assert here.evaluator == TorchrunEvaluator(ACTS, 2, limit=9.5)
    assert ExecutorSettings(trial_timeout=9.5).start(ACTS, 2) == (
        "pool",
        TorchrunEvaluator(ACTS, 2, limit=9.5),
        4,
        None,
    )


def test_ray_gets_the_time_limit(ray_calls):
    ExecutorSettings("ray", trial_timeout=9.5).start(ACTS)
    ExecutorSettings("ray", trial_timeout=9.5).start(ACTS, 2)
    assert [given["limit"] for *_, given in ray_calls] == [9.5, None]
    assert ray_calls[1][0] == TorchrunEvaluator(ACTS, 2, limit=9.5)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), 1e30])
def test_a_time_limit_that_is_no_time_is_refused(seconds):
    with pytest.raises(
        InputError, match=r"the time limit of a trial is .* seconds; give a number above 0 and at most \d+"
    ):
        ExecutorSettings(trial_timeout=seconds)


def test_an_evaluator_that_cannot_be_sent_is_refused_before_its_first_training():
    with pytest.raises(InputError, match="cannot be sent to another process"):
        ExecutorSettings(workers=1).start(lambda candidate, epochs, seed: None, processes=2)


def test_an_evaluator_that_cannot_be_sent_has_no_time_limit():
    words = "cannot be sent to another process: .*, or use one worker without a time limit"
    with pytest.raises(InputError, match=words):
        ExecutorSettings(workers=1, trial_timeout=5).start(lambda candidate, epochs, seed: None)


@pytest.mark.slow
def test_no_ray_cluster_is_one_clear_line():
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto': .*; start one with `ray start --head`"):
        ExecutorSettings("ray").start(ACTS)


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, numbers 4 and 6 of it, and pools that only say what they were started with."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(settings, "available_workers", lambda: 64)
    monkeypatch.setattr(settings, "ProcessPool", lambda evaluator, workers, limit, places: (workers, places))


class OnGpu(Acts):
    """An evaluator that trains on GPUs."""

    def __init__(self, device="cuda"):
        super().__init__("")
        self.device = device


FOUR, SIX = {"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}


@pytest.mark.parametrize(
    ("given", "device", "processes", "expected"),
    [
        ({}, "cuda", 1, (2, [FOUR, SIX])),
        ({"trials_per_gpu": 3}, "cuda", 1, (6, [FOUR, SIX])),
        ({"trials_per_gpu": 3}, "cuda:1", 1, (3, [{}])),
        ({"trials_per_gpu": 3, "workers": 5}, "cuda", 1, (5, [FOUR, SIX])),
        ({}, "cuda", 2, (1, [{"CUDA_VISIBLE_DEVICES": "4,6"}])),
        ({}, "cpu", 1, (64, [])),
    ],
    ids=["one on each", "three on each", "one GPU", "workers", "processes", "cpu"],
)
def test_trials_at_once_follow_from_the_gpus_and_never_from_the_processors(
    two_gpus, given, device, processes, expected
):
    assert ExecutorSettings(**given).start(OnGpu(device), processes) == expected


def test_a_single_trial_on_a_gpu_runs_in_another_process_which_can_be_replaced(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert ExecutorSettings().start(OnGpu()) == (1, [FOUR])
    assert isinstance(ExecutorSettings(workers=1).start(OnGpu()), InProcess)  # as the user says


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None], ids=str)
def test_a_number_of_trials_on_a_gpu_that_is_none_is_refused(count):
    with pytest.raises(InputError, match=rf"trials_per_gpu is {count}; allowed: whole numbers from 1"):
        ExecutorSettings(trials_per_gpu=count)


@pytest.mark.parametrize(
    ("given", "processes", "gpus"),
    [({}, 1, 1), ({"trials_per_gpu": 4}, 1, 0.25), ({"trials_per_gpu": 4}, 2, 2), ({"gpus": 0.1}, 1, 0.1)],
    ids=str,
)
def test_ray_reserves_a_part_of_a_gpu(ray_calls, given, processes, gpus):
    """Ray, and not this process, knows the GPUs: it may run on a node without one."""
    ExecutorSettings("ray", **given).start(OnGpu(), processes)
    assert ray_calls[0][2]["gpus"] == gpus


def test_as_many_trials_as_were_asked_for_fit_on_a_gpu_of_ray():
    """Ray rounds to 1/10,000 of a GPU."""
    for count in range(1, 65):
        parts = round(ExecutorSettings("ray", trials_per_gpu=count).reserved_gpus("cuda") * 10_000)
        assert parts * count <= 10_000 < parts * (count + 1)


def test_words_say_where_trials_run_and_what_to_change(two_gpus):
    assert ExecutorSettings(trials_per_gpu=2).words("cuda") == (
        "4 at the same time on GPU 4 | 6 (--trials-per-gpu N lets N share one)"
    )
    assert ExecutorSettings(workers=1).words("cuda").startswith("1 at the same time on GPU 4 (")
    assert "2 at the same time on GPU cuda:1 (" in ExecutorSettings(trials_per_gpu=2).words("cuda:1")
    assert ExecutorSettings("ray", trials_per_gpu=4).words("cuda") == (
        "each reserves 0.25 GPUs of the Ray cluster (--trials-per-gpu N lets N share one)"
    )
