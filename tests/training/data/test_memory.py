"""Images in memory: exact statistics, old passes bit for bit, splits."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.errors import Note
from fbnetv3.training.data import memory
from fbnetv3.training.data.augment import KINDS, draw
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.memory import BLOCK, Split, normalise, pixel_statistics
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.transforms import Transforms
from tests.training.data.examples import ALONE, epoch, noise, same
from tests.training.data.pretended import CUDA, pretended_cuda
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


def held(gigabytes):
    """A set whose images are one pixel of memory that is repeated."""
    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(int(gigabytes * 2**30) // 16, 1, 4, 4)
    return dataclasses.replace(FULL, train=Split(images, torch.zeros(len(images), dtype=torch.uint8)))


def test_images_that_fill_half_of_a_gpus_free_memory_stay_on_the_host(monkeypatch):
    with pretended_cuda(monkeypatch):
        moved = on_device(held(0.4), CUDA)
        assert moved.train.images.device == CUDA
        with pytest.warns(
            Note, match=r"the images take 0\.5 GiB, more than 50% of the 0\.9 GiB that cuda:0 has free; they st"
        ):
            moved = on_device(held(0.45), CUDA)
        assert moved.train.images.device.type == "cpu"
        assert on_device(moved, CUDA) is moved
        small = dataclasses.replace(moved, train=FULL.train)
        for x, labels in (
            next(small.epoch("crop_flip", 96, np.random.default_rng(0), ALONE)),
            next(small.batches("val", ALONE)),
        ):
            assert (x.device, labels.device) == (CUDA, CUDA)


def test_images_on_the_host_give_the_same_batches_on_a_device(monkeypatch):
    """What is sent are the bytes of the batches that the host trains on."""
    sent = []
    monkeypatch.setattr(memory, "send_ahead", lambda batches, device: sent.append((device, list(batches))) or [])
    data = dataclasses.replace(FULL, train=first(FULL.train, 64), device=torch.device("meta"))
    assert epoch(data, "crop_flip", 8) == []
    ((device, batches),) = sent
    assert device.type == "meta"
    monkeypatch.undo()
    here = epoch(dataclasses.replace(data, device=None), "crop_flip", 8)
    assert same([(normalise(x, FULL.mean, FULL.std), labels) for x, labels in batches], here)


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, 0.286, 0.353), (3, 0.5, 0.25)])
def test_a_number_and_a_tensor_normalise_alike(channels, mean, std):
    """A device divides by a tensor. A number gives the same bits on the CPU alone."""
    images = torch.arange(256, dtype=torch.uint8).repeat(channels).view(1, channels, 16, 16)
    by_number = images.float().sub_(255 * mean).div_(255 * std)
    assert torch.equal(normalise(images, mean, std), by_number)
    assert torch.equal(Transforms(16, 16, (mean,) * channels, (std,) * channels).normalise(images), by_number)


def test_a_gpu_computes_with_as_many_pixels_as_fit(monkeypatch):
    """500 images of 224 x 224 pixels are too many for the memory of some."""
    monkeypatch.setattr(memory, "BLOCK_PIXELS", 100 * 28 * 28)
    there = on_device(FULL, torch.device("meta"))
    assert [len(x) for x, _ in there.batches("val", ALONE)] == [100] * 40
    assert [len(x) for x, _ in FULL.batches("val", ALONE)] == [500] * 8
    called, change = [], draw("none", 1, (28, 28), np.random.default_rng(0))
    monkeypatch.setattr(
        memory, "draw", lambda *_: lambda images, rows: called.append(len(rows)) or change(images, rows)
    )
    for data in (there, FULL):
        epoch(data, size=40)
    assert (set(called[:63]), called[63:65]) == ({80, 40}, [480, 480])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_never_waits_for_a_device(kind):
    """On `meta`, everything that a host would wait for is an error: numbers, truth values, copies to the host."""
    for images in (FULL.train.images[:64], noise(64)):
        data = on_device(dataclasses.replace(FULL, train=Split(images, FULL.train.labels[:64])), torch.device("meta"))
        assert [x.shape for x, _ in epoch(data, kind, 8)] == [(8, *images.shape[1:])] * 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_colours_on_a_gpu_are_changed_without_a_wait(kind):
    """All operations of AutoAugment come up. torch raises an error where the host would wait."""
    data = on_device(dataclasses.replace(FULL, train=Split(noise(2000), torch.arange(2000))), CUDA)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(epoch(data, kind, 100)) == 20
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kind", "most"), [("crop_flip", 0), ("resized_crop_flip", 1), ("autoaugment", 2)])
def test_the_pixels_on_a_gpu_are_those_of_the_host(kind, most):
    """Exact where whole numbers are computed. Floating-point numbers are rounded, and may be rounded otherwise."""
    for data in (FULL, dataclasses.replace(FULL, train=Split(noise(2000), torch.arange(2000)))):
        there = torch.cat([x.cpu() for x, _ in epoch(on_device(data, CUDA), kind, 100)])
        here = torch.cat([x for x, _ in epoch(data, kind, 100)])
        levels = (there - here).abs() * 255 * FULL.std
        assert levels.max() < most + 0.01
        assert (levels > 0.01).float().mean() < 0.05


def test_the_length_of_a_split_is_its_number_of_images():
    assert len(Split(torch.zeros(3, 1, 2, 2), torch.zeros(3))) == 3
