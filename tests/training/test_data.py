import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.augment import augment, mixup_weight
from fbnetv3.training.data import fashion_mnist, load_images, normalise

SOURCE = Path("/usr/share/datasets/fashion-mnist")


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
    folder = Path(__file__).parents[2] / "fbnetv3" / "training" / "images"
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


def test_flip_mirrors_about_half_and_changes_nothing_else():
    images = fashion_mnist().train.images[:400]
    out = augment(images, "flip", np.random.default_rng(0))
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250
    assert augment(images, "none", np.random.default_rng(0)) is images


def test_crop_flip_shifts_by_at_most_two_pixels():
    image = torch.zeros(200, 1, 9, 9, dtype=torch.uint8)
    image[:, 0, 4, 4] = 1
    where = augment(image, "crop_flip", np.random.default_rng(0)).nonzero()[:, 2:]
    assert len(where) == 200
    assert where.min() == 2
    assert where.max() == 6
    assert len({tuple(row) for row in where.tolist()}) == 25


def test_mixup_weight():
    rng = np.random.default_rng(0)
    assert mixup_weight(0.0, rng) == 1.0
    draws = [mixup_weight(0.4, rng) for _ in range(2000)]
    assert 0 <= min(draws) < 0.01
    assert np.mean(draws) == pytest.approx(0.5, abs=0.03)
