"""The made-up accuracy is fixed and looks like real ones, and restricted spaces can be enumerated."""

import numpy as np
import pytest

from fbnetv3.benchmarks.search.landscapes import Oracle, everything, restricted
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.reader import load_space

MICRO = load_space("micro")


def test_the_oracle_is_fixed_and_looks_like_accuracies():
    rows = random_rows(MICRO, 500, np.random.default_rng(0))
    values = Oracle(MICRO)(rows)
    assert np.array_equal(values, Oracle(MICRO)(rows))
    assert 70 < values.min() < values.max() < 90
    assert 0.2 < values.std() < 2
    assert values[0] == pytest.approx(Oracle(MICRO)(rows[:1])[0])


def test_larger_networks_are_better_on_average():
    rows = random_rows(MICRO, 500, np.random.default_rng(1))
    assert np.corrcoef(np.log(MICRO.cost(rows).flops()), Oracle(MICRO)(rows))[0, 1] > 0.2


def test_a_restricted_space_is_what_is_left_free():
    small = restricted(MICRO, ("row2.c", "mixup"))
    rows = everything(small)
    assert len(rows) == len(np.unique(rows, axis=0)) == 4 * 21
    assert {c.name for c in small.coordinates if len(c.values) > 1} == {"row2.c", "mixup"}
