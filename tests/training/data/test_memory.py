import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.data.augment import KINDS
from fbnetv3.training.data.memory import Split, normalise, pixel_statistics
from fbnetv3.training.data.packaged import fashion_mnist, load_images
from fbnetv3.training.process_rank import ProcessRank
from tests.places import ROOT

SOURCE = Path("/usr/share/datasets/fashion-mnist")
ALONE = ProcessRank()
DATA = dataclasses.replace(
    fashion_mnist(), train=Split(fashion_mnist().train.images[:400], fashion_mnist().train.labels[:400])
)


def test_the_subset_is_balanced_and_its_splits_are_apart():
    data = fashion_mnist()
    for name, each in (("train", 500), ("val", 100), ("test", 200)):
        assert np.bincount(data.split(name).labels).tolist() == [each] * 10
        assert data.split(name).images.shape[1:] == (1, 28, 28)
        assert data.split(name).images.dtype == torch.uint8
    seen = {image.numpy().tobytes() for image in data.train.images}
    for split in (data.val, data.test):
        shared = sum(image.numpy().tobytes() in seen for image in split.images)
        assert shared <= 2  # the original holds a handful of duplicates


def test_the_file_is_small_and_made_by_its_script(tmp_path):
    folder = ROOT / "fbnetv3" / "training" / "data" / "images"
    made = folder / "fashion_mnist.npz"
    assert made.stat().st_size <= 4.5e6
    if not SOURCE.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    script = (folder / "make_fashion_mnist.py").read_text().replace("__file__", repr(str(tmp_path / "made.py")))
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    with np.load(made) as ours, np.load(tmp_path / "fashion_mnist.npz") as again:
        assert set(ours.files) == set(again.files)
        assert all(np.array_equal(ours[key], again[key]) for key in ours.files)


def test_normalised_images_have_mean_zero_and_deviation_one():
    data = fashion_mnist()
    x = normalise(data.train.images, data.mean, data.std)
    assert x.mean().item() == pytest.approx(0, abs=1e-4)
    assert x.std().item() == pytest.approx(1, abs=1e-4)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_unknown_data_and_split():
    with pytest.raises(InputError, match="unknown data set 'imagenet'; available: fashion_mnist"):
        load_images("imagenet")
    with pytest.raises(InputError, match="unknown split 'holdout'"):
        fashion_mnist().split("holdout")


def epoch(data, kind, size, process=ALONE, start=0, seed=(3, 1)):
    return list(data.epoch(kind, size, np.random.default_rng(seed), process, start))


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
    for x, labels in fashion_mnist().epoch(kind, 96, rng, ALONE):
        found.update(x.contiguous().numpy().tobytes())
        found.update(labels.numpy().tobytes())
        assert x.stride() == (784, 784, 28, 1)
    assert found.hexdigest()[:16] == digest
    assert rng.integers(2**62) == next_draw


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_does_not_depend_on_share_and_start(kind):
    whole = epoch(DATA, kind, 30)
    assert [len(labels) for _, labels in whole] == [30] * 13  # of 400
    for start in (0, 1, 12, 13):
        parts = [epoch(DATA, kind, 30, ProcessRank(rank, 3), start) for rank in range(3)]
        assert [len(part) for part in parts] == [13 - start] * 3
        for i, (x, labels) in enumerate(whole[start:]):
            assert torch.equal(torch.cat([part[i][0] for part in parts]), x)
            assert torch.equal(torch.cat([part[i][1] for part in parts]), labels)


def test_a_pass_draws_everything_before_it_begins():
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    batches = DATA.epoch("crop_flip", 100, rng, ALONE)
    rng.integers(100)
    got = next(iter(batches))[0]
    assert torch.equal(got, next(iter(DATA.epoch("crop_flip", 100, other, ALONE)))[0])


def test_an_uneven_batch_is_refused_at_once():
    with pytest.raises(InputError, match="a batch of 32 cannot be divided evenly among 3 processes"):
        DATA.epoch("none", 32, np.random.default_rng(0), ProcessRank(0, 3))


def test_evaluation_sees_every_image_once():
    parts = [list(fashion_mnist().batches("test", ProcessRank(rank, 3))) for rank in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    labels = torch.cat([labels for part in parts for _, labels in part])
    assert len(labels) == fashion_mnist().count("test") == 2000
    assert torch.bincount(labels).tolist() == [200] * 10
    x = torch.cat([x for x, _ in fashion_mnist().batches("test", ALONE)])
    assert torch.equal(x, DATA.transforms.normalise(fashion_mnist().test.images))


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


def test_a_set_without_test_images_has_no_such_split():
    empty = Split(DATA.test.images[:0], DATA.test.labels[:0])
    data = dataclasses.replace(DATA, test=empty)
    with pytest.raises(InputError, match="unknown split 'test' of fashion_mnist; available: train, val"):
        data.count("test")
