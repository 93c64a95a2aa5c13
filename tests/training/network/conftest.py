"""Tests of networks draw from a seeded generator, on one thread."""

import pytest
import torch

from fbnetv3.training.engine import cpu_threads


@pytest.fixture(autouse=True)
def one_seeded_thread():
    with cpu_threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
