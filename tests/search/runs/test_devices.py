"""The devices of a search: chosen, recorded, and told."""

import json
import os
import warnings

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.errors import Note
from fbnetv3.search.execution.machine import Machine
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.runs import devices
from fbnetv3.search.runs.devices import announce, choose, machine_of, record, record_change, recorded
from tests.search.scripted import config

H200 = Machine("cuda", "bf16", "cuda (NVIDIA H200)")
CPU = Machine("cpu", "fp32", "cpu")
AUTO = {"device": "auto", "precision": "auto", "readers": None}


class OnGpu:
    device = "cuda"


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs and twelve processors."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.setattr(devices, "find_machine", lambda *_, **__: H200)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_on_the_cpu_a_search_is_what_it_was(no_gpu, tmp_path):
    cfg = config(tmp_path, **AUTO)
    chosen, machine = choose(cfg, ExecutorSettings())
    assert (chosen.device, chosen.precision, chosen.readers, machine) == ("cpu", "fp32", 0, CPU)
    assert chosen.fingerprint == cfg.fingerprint == config(tmp_path).fingerprint


@pytest.mark.parametrize(
    ("given", "executor", "readers"),
    [
        ({}, {}, 6),
        ({}, {"trials_per_gpu": 2}, 3),
        ({"processes": 2}, {}, 6),
        ({}, {"workers": 1}, 8),
        ({}, {"trials_per_gpu": 50}, 1),
        ({"readers": 5}, {}, 5),
        ({}, {"kind": "ray"}, 0),
        ({}, {"kind": "ray", "cpus": 4.0}, 3),
        ({}, {"kind": "ray", "cpus": 64.0}, 8),
    ],
    ids=str,
)
def test_trainings_on_gpus_share_the_processors(two_gpus, tmp_path, given, executor, readers):
    chosen, machine = choose(config(tmp_path, **AUTO | given), ExecutorSettings(**executor))
    assert (chosen.device, chosen.precision, chosen.readers, machine) == ("cuda", "bf16", readers, H200)


def test_more_processes_than_gpus_are_refused(two_gpus, tmp_path):
    with pytest.raises(InputError, match="the 3 processes of a trial need 3 GPUs, and there are 2"):
        choose(config(tmp_path, **AUTO, processes=3), ExecutorSettings(workers=1))


def test_a_driver_without_a_gpu_searches_on_a_cluster_but_makes_no_final_training(no_gpu, tmp_path):
    ray, cfg = ExecutorSettings("ray"), config(tmp_path, final_training=False)
    assert machine_of(cfg, "cuda", ray).device == "cuda"
    assert machine_of(cfg, "auto", ray) == CPU
    assert machine_of(cfg, "auto", ExecutorSettings("ray", gpus=0.5)).device == "cuda"
    words = "makes the final training, and has no GPU for --device cuda; start it on a node with a GPU, or set final_training"
    with pytest.raises(InputError, match=words):
        machine_of(config(tmp_path), "cuda", ray)


def test_the_first_line_says_what_trains_where_and_what_to_change(two_gpus, tmp_path):
    cfg, executor = config(tmp_path, precision="bf16", readers=3), ExecutorSettings(trials_per_gpu=2)
    with pytest.warns(Note) as said:
        announce(cfg, H200, executor, OnGpu())
    assert str(said[0].message) == (
        "trainings on cuda (NVIDIA H200), bf16, 3 readers each; 4 at the same time on GPU 0 | 1 "
        "(--trials-per-gpu N lets N share one)"
    )


def test_on_the_cpu_nothing_is_said(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        announce(config(tmp_path), CPU, ExecutorSettings(), lambda candidate, epochs, seed: None)


@pytest.mark.parametrize(
    ("workers", "loss"), [(3, "some workers are idle"), (1, "proposed trainings wait for a worker")]
)
def test_an_asynchronous_search_with_another_number_of_workers_says_so(tmp_path, workers, loss):
    cfg = config(tmp_path, asynchronous=2)
    with pytest.warns(Note) as said:
        announce(cfg, CPU, ExecutorSettings(workers=workers), lambda candidate, epochs, seed: None)
    assert [str(note.message) for note in said] == [
        f"asynchronous is 2, but the number of workers is {workers}, so {loss}; give --workers 2, or start a search with "
        f"--asynchronous {workers}"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for executor in (ExecutorSettings(workers=2), ExecutorSettings("ray", workers=3)):
            announce(cfg, CPU, executor, lambda candidate, epochs, seed: None)


def test_every_device_of_a_search_is_recorded(tmp_path, caplog):
    cfg = config(tmp_path)
    record(tmp_path, {"torch": "2.0"}, CPU, cfg)
    record_change(tmp_path, CPU, cfg)
    assert recorded(tmp_path, cfg) == ["cpu"]
    assert caplog.text == ""
    record_change(tmp_path, H200, cfg)
    record_change(tmp_path, H200, cfg)
    record_change(tmp_path, CPU, cfg)
    assert recorded(tmp_path, cfg) == ["cpu", "cuda (NVIDIA H200)", "cpu"]
    assert "trained on cpu and continues on cuda (NVIDIA H200)" in caplog.text
    content = json.loads((tmp_path / "environment.json").read_text())
    assert content == {"torch": "2.0", "devices": ["cpu", "cuda (NVIDIA H200)", "cpu"], "precision": "fp32"}


@pytest.mark.parametrize("content", [None, {}, {"devices": "cpu"}], ids=["no file", "earlier version", "damaged"])
def test_a_record_without_devices_means_the_one_that_the_search_began_with(tmp_path, content, caplog):
    if content is not None:
        (tmp_path / "environment.json").write_text(json.dumps(content))
    cfg = config(tmp_path, device="cuda")
    assert recorded(tmp_path, cfg) == ["cuda"]
    record_change(tmp_path, H200, cfg)
    assert caplog.text == ""
    record_change(tmp_path, CPU, cfg)
    assert "trained on cuda and continues on cpu" in caplog.text
