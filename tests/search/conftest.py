"""What the tests of the search share."""

import pytest

from fbnetv3.training.engine import cpu_threads


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Let torch compute on one thread: on several, test processes that run at the same time wait for each other's threads."""
    with cpu_threads(1):
        yield
