"""Files are written once and named often, and both readers deliver all of them as batches."""

import numpy as np
import pytest
import torch

from fbnetv3.benchmarks.gpu import photos
from fbnetv3.training.process_rank import ProcessRank

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    size = photos.write_photos(place, different=10, count=24)
    assert 5e4 < size < 2e5  # about as large as a photo of ImageNet
    return place


def test_files_beyond_the_different_ones_are_further_names(folder):
    files = sorted((folder / "train").rglob("*.jpg"))
    assert len(files) == 24
    assert len({path.stat().st_ino for path in files}) == 10
    assert {path.parent.name for path in files} == {f"class{i}" for i in range(photos.CLASSES)}
    photos.decode(files[:2])


def test_both_readers_deliver_the_same_number_of_images(folder):
    ours = photos.readers(folder, 32, 0)
    theirs = photos.TimmFolder.of(folder, 32, 0, CPU)
    assert len(ours.classes) == len(theirs.classes) == photos.CLASSES
    for data in (ours, theirs):
        batches = list(data.epoch("resized_crop_flip", 8, np.random.default_rng(0), ProcessRank()))
        assert [tuple(x.shape) for x, _ in batches] == [(8, 3, 32, 32)] * 3
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
        assert all(labels.dtype == torch.int64 for _, labels in batches)
        # Normalised, also timm's bytes: neither is 0 to 1 or 0 to 255.
        assert all(x.dtype == torch.float32 and x.min() < -0.5 and 0.5 < x.max() < 3 for x, _ in batches)


def test_the_workers_of_both_start_with_the_pass(folder):
    # In passes of seconds, workers that one of the two keeps would decide the comparison.
    loader = photos.TimmFolder.of(folder, 32, 2, CPU).loader(8).loader
    assert (loader.num_workers, loader.persistent_workers, loader.drop_last) == (2, False, True)
