"""The image set in the package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.data.packaged import DATA, fashion_mnist, load_images
from tests.places import ROOT

SOURCE = Path("/usr/share/datasets/fashion-mnist")


def test_the_subset_is_balanced_and_its_splits_are_apart():
    data = fashion_mnist()
    for name, each in (("train", 500), ("val", 400), ("test", 400)):
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
    assert made.stat().st_size <= 6e6
    if not SOURCE.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    script = (folder / "make_fashion_mnist.py").read_text().replace("__file__", repr(str(tmp_path / "made.py")))
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    with np.load(made) as ours, np.load(tmp_path / "fashion_mnist.npz") as again:
        assert set(ours.files) == set(again.files)
        assert all(np.array_equal(ours[key], again[key]) for key in ours.files)


def test_sets_are_loaded_by_name_and_once():
    assert list(DATA) == ["fashion_mnist"]
    data = load_images("fashion_mnist")
    assert data is fashion_mnist()
    assert (data.name, len(data.classes), data.classes[0]) == ("fashion_mnist", 10, "t-shirt")
    with pytest.raises(InputError, match="unknown data set 'imagenet'; available: fashion_mnist"):
        load_images("imagenet")
