"""Counts as people write them."""

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.counts import LEAST_SEED, MAX_SEED, check_seed, parse_count


@pytest.mark.parametrize(
    ("text", "value"), [("450M", 450e6), ("1.2g", 1.2e9), ("800K", 8e5), ("1000000", 1e6), ("1e6", 1e6)]
)
def test_counts(text, value):
    assert parse_count(text, "--max-flops") == value


@pytest.mark.parametrize("text", ["", "M", "-1M", "nan", "inf", "0", "1.5X"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(InputError, match=r"--max-flops is .*; give a count such as 450M"):
        parse_count(text, "--max-flops")


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint64(MAX_SEED), MAX_SEED])
def test_a_seed_is_one_that_torch_and_numpy_take(seed):
    found = check_seed(seed)
    assert (found, type(found)) == (int(seed), int)
    torch.Generator().manual_seed(found)
    np.random.default_rng([found, 0])


def test_a_seed_of_torch_alone_may_be_negative():
    assert check_seed(LEAST_SEED, LEAST_SEED) == LEAST_SEED
    torch.Generator().manual_seed(LEAST_SEED)
    with pytest.raises(
        InputError, match="seed is -9223372036854775809; give a whole number from -9223372036854775808 to"
    ):
        check_seed(LEAST_SEED - 1, LEAST_SEED)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**70, 10**5000, 1.5, "1", None, float("nan"), [1]], ids=type)
def test_what_is_no_seed_is_refused_in_one_short_line(seed):
    with pytest.raises(InputError, match=rf"^seed is .{{1,90}}; give a whole number from 0 to {MAX_SEED}$"):
        check_seed(seed)
