"""Every test of a benchmark computes on one thread.

The test processes run side by side on few processors. With a thread per processor in each, they would wait for each other.
"""

import pytest

from fbnetv3.training.engine import cpu_threads


@pytest.fixture(autouse=True)
def _one_thread():
    with cpu_threads(1):
        yield
