"""Tests of inference run on one thread."""

import pytest

from fbnetv3.training.engine import cpu_threads


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with cpu_threads(1):
        yield
