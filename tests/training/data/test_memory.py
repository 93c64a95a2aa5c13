"""Images in memory: exact statistics, old passes bit for bit, splits."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.data.memory import BLOCK, Split, normalise, pixel_statistics
from fbnetv3.training.data.packaged import fashion_mnist
from tests.training.data.examples import ALONE, epoch, same
from tests.training.examples import first

FULL = fashion_mnist()


def test_normalised_images_have_mean_zero_and_std_one():
    x = normalise(FULL.train.images, FULL.mean, FULL.std)
    assert x.mean().item() == pytest.approx(0, abs=1e-4)
    assert x.std().item() == pytest.approx(1, abs=1e-4)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_colours_come_out_channels_last():
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = normalise(images, 0.5, 0.25)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(x, (images / 255 - 0.5) / 0.25, atol=1e-5)


def test_statistics_are_those_of_the_pixels():
    images = torch.tensor([0, 255, 255, 255, 51, 0], dtype=torch.uint8).view(3, 1, 1, 2)
    mean, std = pixel_statistics(images)
    assert mean == pytest.approx(np.mean([0, 1, 1, 1, 0.2, 0]))
    assert std == pytest.approx(np.std([0, 1, 1, 1, 0.2, 0]))


@pytest.mark.parametrize(
    ("kind", "digest", "next_draw"),
    [
        ("none", "7d5530a2083af077", 1082923059821150673),
        ("flip", "d3b2e522d899434d", 1818071252409558507),
        ("crop_flip", "dabf52e4971020b0", 4169873053236203646),
    ],
)
def test_a_pass_is_that_of_earlier_versions(kind, digest, next_draw):
    rng, found = np.random.default_rng([3, 1]), hashlib.sha256()
    for x, labels in FULL.epoch(kind, 96, rng, ALONE):
        found.update(x.contiguous().numpy().tobytes())
        found.update(labels.numpy().tobytes())
        assert x.stride() == (784, 784, 28, 1)
    assert found.hexdigest()[:16] == digest
    assert rng.integers(2**62) == next_draw


def test_a_pass_does_not_depend_on_the_size_of_the_blocks(monkeypatch):
    data = dataclasses.replace(FULL, train=first(FULL.train, 64))
    assert BLOCK > 64
    in_one_block = epoch(data, "autoaugment", 8)
    monkeypatch.setattr("fbnetv3.training.data.memory.BLOCK", 16)
    assert same(epoch(data, "autoaugment", 8), in_one_block)


def test_evaluation_is_the_preprocessing_of_predictions():
    x = torch.cat([x for x, _ in FULL.batches("test", ALONE)])
    assert torch.equal(x, FULL.transforms.normalise(FULL.test.images))
    assert (FULL.transforms.resize, FULL.transforms.crop, FULL.in_chans) == (28, 28, 1)


def test_a_set_without_test_images_has_no_such_split():
    data = dataclasses.replace(FULL, test=first(FULL.test, 0))
    with pytest.raises(InputError, match="unknown split 'test' of fashion_mnist; available: train, val"):
        data.count("test")


def test_the_length_of_a_split_is_its_number_of_images():
    assert len(Split(torch.zeros(3, 1, 2, 2), torch.zeros(3))) == 3
