"""Random candidates of a pool."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.acquisition import first_batch
from fbnetv3.search.rivals.random import Random
from tests.search.rivals.made_up import grid_context


def test_batches_change_nothing_and_the_rest_of_the_pool_comes_last(tmp_path):
    context = grid_context(tmp_path)
    pool = context.constraints.sample(20, 3)
    rival = Random(context.constraints, 3, 20, 8)
    rows = np.concatenate([rival.ask(3), rival.ask(5)])
    assert rows.tolist() == pool[first_batch(20, 8, 3)].tolist()
    assert len(np.unique(np.concatenate([rows, rival.ask(12)]), axis=0)) == 20
    with pytest.raises(InputError, match="the pool has 0 candidates left, 1 are needed; give a larger pool"):
        rival.ask(1)
