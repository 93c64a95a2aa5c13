"""All images are read, and those that cannot be read are named."""

import pytest

from fbnetv3.training.data.check import find_bad_images
from fbnetv3.training.data.load import load_data
from fbnetv3.training.process_rank import ProcessRank
from tests.training.data.examples import make_folder


@pytest.fixture
def root(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("test", 2)))
    for name in ("train/bee/0001.png", "test/ant/0000.png"):
        (root / name).write_bytes(b"damaged")
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_found_in_all_splits(root, workers, caplog):
    reports = []
    data = load_data(str(root), workers=workers)
    bad = find_bad_images(data, lambda *report: reports.append(report))
    # A tenth of train is held out as val; it is read too.
    assert sorted((image.name, image.split in ("train", "val")) for image in bad) == [
        ("ant/0000.png", False),
        ("bee/0001.png", True),
    ]
    assert all(image.reason.startswith(str(root)) and "is no image that can be read" in image.reason for image in bad)
    assert reports[-1][1:] == (15, "reading the images of test")
    assert caplog.text == ""
    assert data.bad.met == {}


def test_several_processes_share_the_images(root):
    parts = [find_bad_images(load_data(str(root)), process=ProcessRank(rank, 2)) for rank in range(2)]
    together = sorted((image.split, image.name) for part in parts for image in part)
    assert together == sorted((image.split, image.name) for image in find_bad_images(load_data(str(root))))
    assert len(together) == 2


def test_nothing_is_left_to_check_in_memory():
    assert find_bad_images(load_data("fashion_mnist")) == []
