"""What the trainings of a zoo run on."""

import os

import pytest
import torch

from fbnetv3.search.runs.resources import Resources


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))


FOUR, SIX = {"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}


@pytest.mark.parametrize(
    ("given", "places", "readers"),
    [
        ({}, [FOUR, SIX], 6),
        ({"trials_per_gpu": 2}, [FOUR, SIX, FOUR, SIX], 3),
        ({"at_once": 1}, [FOUR], 8),
        ({"at_once": 3}, [FOUR, SIX, FOUR], 4),
        ({"processes": 2}, [{"CUDA_VISIBLE_DEVICES": "4,6"}], 6),
        ({"device": "cuda:1", "readers": 5}, [{}], 5),
        ({"device": "cpu", "at_once": 2}, [{}, {}], 0),
    ],
    ids=str,
)
def test_networks_that_train_at_the_same_time_share_gpus_and_processors(two_gpus, given, places, readers):
    resources = Resources(**given)
    device = given.get("device", "cuda")
    assert (resources.places, resources.train_options) == (places, ["--device", device, "--workers", str(readers)])
