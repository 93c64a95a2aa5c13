"""Images that cannot be read end the run, or are left out and counted."""

import logging

import pytest

from fbnetv3 import InputError
from fbnetv3.training.data.bad_images import BadImages


def test_they_end_the_run():
    with pytest.raises(InputError, match=r"^a is no image$"):
        BadImages().add("train", [(3, "a is no image")])


def test_they_are_told_once_and_counted(caplog):
    bad = BadImages("skip")
    with caplog.at_level(logging.WARNING):
        bad.add("train", [(3, "a is no image"), (4, "b is no image")])
        bad.add("train", [(3, "a is no image")])
        bad.add("val", [(3, "c is no image")])
    assert {split: sorted(met) for split, met in bad.met.items()} == {"train": [3, 4], "val": [3]}
    assert [record.message for record in caplog.records] == [
        f"left out: {name} is no image" for name in ("a", "b", "c")
    ]


def test_other_words():
    with pytest.raises(InputError, match="on_bad_image is 'ignore'; allowed: skip, fail"):
        BadImages("ignore")
