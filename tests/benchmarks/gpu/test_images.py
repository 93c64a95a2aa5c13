"""The images of the trainings: found in a carried archive or made up, decoded once, kept in a file, thinned evenly."""

import io
import tarfile

import pytest
import torch

from fbnetv3.benchmarks.gpu import images
from fbnetv3.benchmarks.gpu.images import MADE_UP, decode, find_images, keep, load_kept, unpack
from fbnetv3.errors import InputError
from fbnetv3.training.data.load import load_data


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return find_images(MADE_UP, tmp_path_factory.mktemp("images"))


def archive(path, folder, split):
    """A tar file of the images of a split, below a folder as in the archives of CIFAR-10."""
    with tarfile.open(path, "w:xz") as tar:
        tar.add(folder / split, arcname=f"cifar10/{split}")


def test_kept_images_are_the_decoded_ones(made_up, tmp_path):
    decoded = decode(made_up, 34)
    keep(decoded, tmp_path / "images.pt")
    kept = load_kept(tmp_path / "images.pt", "cpu")
    again = load_data(made_up, resolution=34)
    assert (kept.name, kept.classes, kept.mean, kept.std) == (again.name, again.classes, again.mean, again.std)
    assert (kept.train_name, kept.search_name) == (again.train_name, again.search_name)
    for split in ("train", "val", "test"):
        assert torch.equal(kept.split(split).images, again.split(split).images)
        assert torch.equal(kept.split(split).labels, again.split(split).labels)
    assert kept.train.images.shape == (180, 3, 34, 34)  # ten classes of 20, a tenth held out
    assert load_kept(tmp_path / "images.pt", "cpu") is kept  # one copy for all trainings of a process


def test_every_so_many_th_training_image_is_an_equal_share_of_all_classes(made_up, tmp_path):
    keep(decode(made_up, 32), tmp_path / "images.pt")
    thinned = load_kept(tmp_path / "images.pt", "cpu", 3)
    assert thinned.train.labels.bincount().tolist() == [6] * 10  # of 18
    assert (thinned.count("val"), thinned.count("test")) == (20, 40)
    assert load_kept(tmp_path / "images.pt", "cpu", 1, 2).count("val") == 10


def test_carried_archives_are_unpacked(made_up, tmp_path, monkeypatch):
    folder = images.Path(made_up.removeprefix("memory:"))
    for split, name in zip(("train", "test"), images.ARCHIVES, strict=True):
        archive(tmp_path / name, folder, split)
    monkeypatch.setattr(images, "CARRIED", tmp_path)
    found = find_images(None, tmp_path / "here")
    assert found == f"memory:{tmp_path / 'here' / 'cifar10'}"
    assert torch.equal(decode(found, 32).test.images, decode(made_up, 32).test.images)
    assert find_images("memory:/somewhere", tmp_path) == "memory:/somewhere"  # what is named goes first


def test_without_images_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "CARRIED", tmp_path)
    with pytest.raises(
        InputError, match=r"give --data, such as memory:torchvision:cifar10:FOLDER, or put cifar10_train"
    ):
        find_images(None, tmp_path)


@pytest.mark.parametrize(
    ("name", "words"), [("../train/a.jpg", "is outside the folder"), ("cifar10/a.jpg", "have no folder train")]
)
def test_an_archive_that_writes_elsewhere_or_has_no_images_is_refused(tmp_path, name, words):
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match=words):
        unpack([tmp_path / "a.tar.xz"], tmp_path / "here")


def test_images_that_are_not_in_memory_are_refused(made_up):
    with pytest.raises(InputError, match="put memory: before it"):
        decode(made_up.removeprefix("memory:"), 32)
