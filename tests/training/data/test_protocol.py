"""What every `Data` promises, asked of both: images in memory, and images that are read."""

import dataclasses

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.data.augment import KINDS
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.protocol import SPLITS, class_counts
from fbnetv3.training.data.readers import ReaderData
from fbnetv3.training.process_rank import ProcessRank
from tests.training.data.examples import ALONE, epoch, same
from tests.training.examples import first

FULL = fashion_mnist()


@pytest.fixture(scope="module", params=["memory", "files"])
def data(request, folder):
    if request.param == "memory":
        return dataclasses.replace(FULL, train=first(FULL.train, 39), val=first(FULL.val, 12), test=first(FULL.test, 9))
    return load_data(str(folder), resolution=24)


def joined(parts):
    """The batches of several processes put together."""
    return [tuple(map(torch.cat, zip(*batches, strict=True))) for batches in zip(*parts, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_does_not_depend_on_the_processes_and_the_start(data, kind):
    everything = epoch(data, kind)
    steps = data.count("train") // 6
    assert [len(labels) for _, labels in everything] == [6] * steps
    assert same(epoch(data, kind, start=3), everything[3:])
    assert same(joined([epoch(data, kind, process=ProcessRank(rank, 3), start=1) for rank in range(3)]), everything[1:])
    assert epoch(data, kind, start=steps) == []
    assert not same(epoch(data, kind, seed=1), everything)


def test_everything_random_is_drawn_at_once_and_equally_much(data):
    after = []
    for process, start in ((ALONE, 0), (ProcessRank(1, 2), 4)):
        rng = np.random.default_rng(0)
        data.epoch("autoaugment", 6, rng, process, start)  # not even one batch is read
        after.append(rng.integers(2**62))
    assert after[0] == after[1]
    rng = np.random.default_rng(0)
    batches = data.epoch("crop_flip", 6, rng, ALONE)
    rng.integers(100)
    assert torch.equal(next(iter(batches))[0], epoch(data, "crop_flip")[0][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_default_device_and_type_of_the_user_change_nothing(data, workers):
    if isinstance(data, ReaderData):
        data = dataclasses.replace(data, workers=workers)
    found = []
    for device, dtype in (("cpu", torch.float32), ("meta", torch.float64)):
        torch.set_default_device(device)
        torch.set_default_dtype(dtype)
        try:
            batches = [batch for kind in KINDS for batch in epoch(data, kind)]
            found.append([*batches, *data.batches("val", ALONE)])
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)
    assert same(*found)


def test_inputs_are_float32_with_channels_last(data):
    for x, labels in (epoch(data)[0], next(iter(data.batches("val", ALONE)))):
        assert (x.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert x.shape[1] == data.transforms.in_chans
        assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("split", SPLITS)
def test_all_processes_together_see_every_image_of_a_split_once(data, split):
    (alone,) = data.batches(split, ALONE)
    assert len(alone[1]) == data.count(split)
    parts = [list(data.batches(split, ProcessRank(rank, 2))) for rank in range(2)]
    assert [sum(len(labels) for _, labels in part) for part in parts] == [
        (data.count(split) + 1) // 2,
        data.count(split) // 2,
    ]
    for rank, ((x, labels),) in enumerate(parts):
        assert torch.equal(x, alone[0][rank::2])
        assert torch.equal(labels, alone[1][rank::2])


def test_an_uneven_batch_is_refused_at_once(data):
    with pytest.raises(InputError, match="a batch of 32 cannot be divided evenly among 3 processes"):
        data.epoch("none", 32, np.random.default_rng(0), ProcessRank(0, 3))


def test_unknown_names_are_refused_at_once(data):
    with pytest.raises(InputError, match=r"unknown split 'holdout' of .*; available: train, val, test"):
        data.count("holdout")
    with pytest.raises(InputError, match="unknown augmentation 'cutout'; available: none, flip"):
        data.epoch("cutout", 6, np.random.default_rng(0), ALONE)


def test_images_of_every_class_are_counted(data):
    counts = class_counts(data)
    labels = torch.cat([labels for _, labels in epoch(data, size=1)])
    assert counts == [int((labels == k).sum()) for k in range(len(data.classes))]
    assert sum(counts) == data.count("train")


def test_custom_data_that_does_not_count_is_refused_where_classes_are_weighted():
    class Own:
        name = "mine"

    with pytest.raises(InputError, match="every class, and mine does not tell it; give the data a method class_counts"):
        class_counts(Own())
