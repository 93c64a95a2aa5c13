"""Every image of a batch, and every item of a list, is handled by exactly one process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.training.process_rank import ProcessRank


def test_a_process_that_works_alone_does_everything():
    assert ProcessRank() == ProcessRank(0, 1)
    assert ProcessRank().local_batch(7) == 7
    assert list(ProcessRank().indices(3)) == [0, 1, 2]


@given(st.integers(0, 200), st.integers(1, 9))
def test_every_item_is_handled_once_and_parts_differ_by_one_at_most(count, world_size):
    parts = [list(ProcessRank(rank, world_size).indices(count)) for rank in range(world_size)]
    assert sorted(index for part in parts for index in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_is_divided_evenly_or_refused():
    assert [ProcessRank(rank, 4).local_batch(64) for rank in range(4)] == [16] * 4
    with pytest.raises(
        InputError, match="a batch of 50 cannot be divided evenly among 4 processes; give a multiple of 4"
    ):
        ProcessRank(0, 4).local_batch(50)
