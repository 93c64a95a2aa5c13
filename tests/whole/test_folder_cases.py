"""Folders with the oddities that people report: which classes and images they have, and which cannot be read."""

import runpy
import sys

import pytest
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.training.data.check import find_bad_images
from fbnetv3.training.data.load import load_data
from fbnetv3.training.dry_run import check_network
from tests.places import SHARED
from tests.training.data.examples import epoch

SCRIPT = SHARED / "cases" / "folders.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason=f"no generator of folders at {SCRIPT}")

TWO, THREE = ("cat", "dog"), ("bird", "cat", "dog")
# Kind: classes, number of training images, and those of them that cannot be read.
KINDS = {
    "plain": (TWO, 16, []),
    "appledouble": (TWO, 16, []),
    "ipynb": (TWO, 16, []),
    "ipynb_train": (TWO, 16, []),
    "ipynb_inside": (TWO, 16, []),
    "gray16": (TWO, 16, []),
    "truncated": (TWO, 16, ["cat/0.jpg"]),
    "emptyval": (THREE, 19, []),
    "exif": (TWO, 17, []),
    "tiny": (TWO, 18, []),
    "modes": (TWO, 27, ["dog/f.tiff"]),
    "broken_symlink": (TWO, 17, ["dog/link.jpg"]),
    "symlinkclass": (TWO, 16, []),
    "mixedgray": (TWO, 16, []),
    "dirjpg": (TWO, 17, []),
    "gif": (TWO, 17, []),
}


def make(folder, kind, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder / kind), kind])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return folder / kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_folder_has(tmp_path, monkeypatch, kind):
    root = make(tmp_path, kind, monkeypatch)
    classes, count, damaged = KINDS[kind]
    data = load_data(str(root), resolution=24)
    assert (data.classes, data.count("train"), data.count("val"), data.count("test")) == (classes, count, 6, 6)
    assert [image.name for image in find_bad_images(data)] == damaged
    read = load_data(str(root), resolution=24, on_bad_image="skip")
    assert all(x.isfinite().all() for x, _ in epoch(read, "autoaugment", 4))
    memory = load_data(f"memory:{root}", resolution=24, on_bad_image="skip")
    assert memory.count("train") == count - len(damaged)
    assert memory.in_chans == (1 if kind in ("gray16", "mixedgray") else 3)
    if damaged:
        with pytest.raises(InputError, match=damaged[0]):
            load_data(f"memory:{root}", resolution=24)


def test_16_bits_of_grey_are_neither_black_nor_white(tmp_path, monkeypatch):
    data = load_data(f"memory:{make(tmp_path, 'gray16', monkeypatch)}", resolution=24)
    levels = [data.train.images[data.train.labels == label].float().mean().item() for label in (0, 1)]
    assert levels == pytest.approx([11_000 / 257, 52_000 / 257], abs=0.5)


def test_a_class_without_an_image_in_train_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"train has no image of bird; .* every class with at least one image"):
        load_data(str(make(tmp_path, "emptyclass", monkeypatch)))


@pytest.mark.parametrize(
    ("name", "side", "runs"),
    [("fbnetv3_a", 16, False), ("fbnetv3_a", 48, False), ("fbnetv3_f", 32, False), ("fbnetv3_f", 33, True)],
)
def test_images_that_are_too_small_for_a_network_are_refused(tmp_path, monkeypatch, name, side, runs):
    data = load_data(str(make(tmp_path, "plain", monkeypatch)), resolution=side)
    if runs:
        check_network(build_model(name, 2), data, 4, torch.device("cpu"))
        return
    with pytest.raises(InputError, match=f"cannot train on 4 images at once, of 3 x {side} x {side} values"):
        check_network(build_model(name, 2), data, 4, torch.device("cpu"))
