"""Which executor given settings mean."""

import pytest

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
    monkeypatch.setattr(settings, "ProcessPool", lambda evaluator, workers: ("pool", evaluator, workers))


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
    assert THIS_MACHINE.start(ACTS) == ("pool", ACTS, 8)


@pytest.mark.parametrize(("processes", "workers"), [(2, 4), (3, 2), (5, 1), (20, 1)])
def test_processes_that_train_together_share_the_processors(processors, processes, workers):
    executor = ExecutorSettings().start(ACTS, processes)
    wrapped = TorchrunEvaluator(ACTS, processes)
    if workers == 1:
        assert isinstance(executor, InProcess)
        assert executor.evaluator == wrapped
    else:
        assert executor == ("pool", wrapped, workers)


def test_a_given_number_of_workers_is_kept_whatever_they_start(processors):
    assert ExecutorSettings(workers=6).start(ACTS, 4) == ("pool", TorchrunEvaluator(ACTS, 4), 6)


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
    assert ray_calls == [(ACTS, "auto", {"cpus": 1, "gpus": 0, "in_flight": 256})]


def test_ray_reserves_a_processor_for_every_process_of_a_trial(ray_calls):
    ExecutorSettings("ray").start(ACTS, 4)
    assert ray_calls == [(TorchrunEvaluator(ACTS, 4), "auto", {"cpus": 4, "gpus": 0, "in_flight": 256})]


def test_ray_gets_the_given_settings(ray_calls):
    ExecutorSettings("ray", workers=3, address="host:1", cpus=0.5, gpus=0.25).start(ACTS, 2)
    assert ray_calls[0][1:] == ("host:1", {"cpus": 0.5, "gpus": 0.25, "in_flight": 3})


@pytest.mark.slow
def test_no_ray_cluster_is_one_clear_line():
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto': .*; start one with `ray start --head`"):
        ExecutorSettings("ray").start(ACTS)
