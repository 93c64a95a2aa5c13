"""A simulated clock: which trainings end when, by hand."""

import pytest

from fbnetv3.benchmarks.search.clock import Clock
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.trial import Outcome


def ends(lengths, workers, at_once=None):
    """When each job ends, in the order of the ends. A job's seed is its number."""
    clock = Clock(lambda candidate, epochs, seed: Outcome((1.0,), "ok", 0.0), workers, lambda job: lengths[job.seed])
    return [(key, clock.now) for key, _ in clock.run({i: Job(None, 1, i) for i in range(len(lengths))}, at_once)]


@pytest.mark.parametrize(
    ("lengths", "workers", "at_once", "expected"),
    [
        ([3, 1, 1, 1], 1, None, [(0, 3), (1, 4), (2, 5), (3, 6)]),
        ([3, 1, 1, 2], 2, None, [(1, 1), (2, 2), (0, 3), (3, 4)]),
        ([3, 1, 1, 2], 2, 2, [(1, 1), (2, 2), (0, 3), (3, 4)]),
        ([3, 1, 1, 2], 4, 1, [(0, 3), (1, 4), (2, 5), (3, 7)]),  # a job that is taken late starts late
        ([2, 2, 2], 3, None, [(0, 2), (1, 2), (2, 2)]),
        ([], 2, 2, []),
    ],
    ids=str,
)
def test_ends_by_hand(lengths, workers, at_once, expected):
    assert ends(lengths, workers, at_once) == expected


def test_time_goes_on_with_the_next_jobs():
    clock = Clock(lambda candidate, epochs, seed: Outcome((1.0,), "ok", 0.0), 2, lambda job: 3)
    for expected in (3, 6):
        assert len(list(clock.run({i: Job(None, 1, i) for i in range(2)}))) == 2
        assert clock.now == expected
