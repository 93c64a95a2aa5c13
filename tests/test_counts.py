"""Counts as people write them."""

import pytest

from fbnetv3 import InputError
from fbnetv3.counts import parse_count


@pytest.mark.parametrize(
    ("text", "value"), [("450M", 450e6), ("1.2g", 1.2e9), ("800K", 8e5), ("1000000", 1e6), ("1e6", 1e6)]
)
def test_counts(text, value):
    assert parse_count(text, "--max-flops") == value


@pytest.mark.parametrize("text", ["", "M", "-1M", "nan", "inf", "0", "1.5X"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(InputError, match=r"--max-flops is .*; give a count such as 450M"):
        parse_count(text, "--max-flops")
