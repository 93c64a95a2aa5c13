"""Trainings run on one thread: two runs are equal to the last bit only with the same number."""

import pytest

from fbnetv3.training.engine import cpu_threads


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with cpu_threads(1):
        yield
