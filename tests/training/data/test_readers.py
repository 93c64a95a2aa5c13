"""Images that are read when they are needed: what must not change what is read, and what must."""

import multiprocessing
import os
import pickle
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from fbnetv3 import InputError
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.image_files import DatasetImages
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.readers import ReaderData, eval_image, read_batches, train_image, train_transform
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms
from tests.training.data.examples import ALONE, CLASSES, epoch, image, make_folder, same
from tests.training.data.pretended import CUDA, sent_to_the_host
from tests.training.examples import RECIPE


def test_a_folder(folder):
    data = load_data(str(folder), resolution=24)
    assert isinstance(data, ReaderData)
    assert data.classes == CLASSES
    assert [data.count(split) for split in ("train", "val", "test")] == [30, 12, 9]
    assert data.transforms == Transforms(27, 24, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for x, labels in epoch(data):
        assert x.shape == (6, 3, 24, 24)
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        red = (x[:, 0] * 0.229 + 0.485).mean((1, 2)) * 255
        assert red.tolist() == pytest.approx([60 * k + 20 for k in labels.tolist()], abs=0.01)
    assert sum(labels.bincount(minlength=3) for _, labels in epoch(data)).tolist() == [10, 10, 10]
    with pytest.raises(InputError, match=r"unknown split 'holdout' of animals .*; available: train, val, test"):
        data.count("holdout")


def test_evaluation_is_the_preprocessing_of_predictions(folder):
    transforms = Transforms(26, 20, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), "bicubic")
    data = load_data(str(folder), transforms=transforms, resolution=16)
    ((x, labels),) = data.batches("val", ALONE)
    paths = sorted((folder / "val").rglob("*.png"))
    assert torch.equal(x, torch.stack([transforms.open(path) for path in paths]))
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert epoch(data)[0][0].shape == (6, 3, 16, 16)


def test_workers_change_nothing_and_leave_torchs_generator_alone(folder):
    state = torch.get_rng_state()
    alone, two = (load_data(str(folder), resolution=24, workers=workers) for workers in (0, 2))
    assert same(epoch(two, "autoaugment"), epoch(alone, "autoaugment"))
    assert same(list(two.batches("val", ALONE)), list(alone.batches("val", ALONE)))
    assert torch.equal(torch.get_rng_state(), state)
    assert alone.name == two.name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_job_does_not_end_those_that_read(folder, number):
    data = load_data(str(folder), resolution=24, workers=1)
    batches = data.epoch("none", 3, np.random.default_rng(0), ALONE)
    seen = [next(batches)]
    (reader,) = multiprocessing.active_children()
    os.kill(reader.pid, number)
    seen += list(batches)
    assert same(seen, list(replace(data, workers=0).epoch("none", 3, np.random.default_rng(0), ALONE)))


def test_worker_processes_can_be_started_afresh(folder):
    """Where they do not begin as copies of this process, what they need is pickled."""
    data = load_data(str(folder), resolution=24, limit=5)
    assert same(epoch(pickle.loads(pickle.dumps(data)), "autoaugment"), epoch(data, "autoaugment"))


def test_skipped_batches_are_not_read(tmp_path):
    data = load_data(str(make_folder(tmp_path / "set", (("train", 4), ("val", 1)))), resolution=24)
    order = np.random.default_rng(0)
    order.integers(2**62)
    first = order.permutation(12)[:6]
    for row in first:
        (tmp_path / "set" / "train" / data.splits["train"].name(int(row))).write_bytes(b"damaged")
    assert len(epoch(data, start=1)) == 1
    with pytest.raises(InputError, match="is no image that can be read"):
        epoch(data)


def test_every_image_and_pass_has_its_own_changes(folder):
    data = load_data(str(folder), resolution=24, limit=1)
    first, second = (
        {
            k: x
            for x, labels in epoch(data, "resized_crop_flip", 3, seed=s)
            for x, k in zip(x, labels.tolist(), strict=True)
        }
        for s in (0, 1)
    )
    assert not any(torch.equal(first[k], second[k]) for k in range(3))
    assert len({x[2].numpy().tobytes() for x in first.values()}) == 3  # all three images have the same blue
    for kind in ("flip", "resized_crop_flip"):
        flips = [bool(x[0, 1, 12, 23] < x[0, 1, 12, 0]) for s in range(40) for x, _ in epoch(data, kind, 3, seed=s)]
        assert 10 < sum(flips) < 30


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named(tmp_path, workers):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)), "jpg")
    path = root / "train" / "bee" / "0001.jpg"
    path.write_bytes(path.read_bytes()[:200])
    data = load_data(str(root), resolution=24, workers=workers)
    with pytest.raises(
        InputError, match=rf"^{path} is no image that can be read \(.*\); repair it or remove it from the set"
    ):
        epoch(data)
    path.unlink()
    with pytest.raises(InputError, match=r"0001\.jpg is no image .*FileNotFoundError"):
        epoch(data)


@pytest.fixture
def damaged(tmp_path):
    """A folder with 12 training images, of which numbers 5, 6 and 11 cannot be read, and 3 of val, of which 1 cannot."""
    root = make_folder(tmp_path / "set", (("train", 4), ("val", 1)))
    for name in ("train/bee/0001.png", "train/bee/0002.png", "train/cow/0003.png", "val/bee/0000.png"):
        (root / name).write_bytes(b"damaged")
    return root


def test_images_that_are_left_out_have_the_next_one_as_substitute(damaged, caplog):
    data = load_data(str(damaged), resolution=24, on_bad_image="skip")
    order = np.random.default_rng(0)
    order.integers(2**62)
    rows = order.permutation(12)
    batches = epoch(data, size=6)
    assert [len(labels) for _, labels in batches] == [6, 6]
    substitutes = {5: 7, 6: 7, 11: 0}
    labels = torch.cat([labels for _, labels in batches]).tolist()
    assert labels == [substitutes.get(row, row) // 4 for row in rows.tolist()]
    read = data.splits["train"]
    assert torch.equal(torch.cat([x for x, _ in batches])[rows.tolist().index(11)], data.transforms(read.read(0)))
    assert sorted(data.bad.met["train"]) == [5, 6, 11]
    assert caplog.text.count("left out: ") == 3
    for other in (load_data(str(damaged), resolution=24, workers=2, on_bad_image="skip"), data):
        assert same(epoch(other, "autoaugment", 4), epoch(data, "autoaugment", 4))
    assert same(epoch(data, "autoaugment", 4, start=2), epoch(data, "autoaugment", 4)[2:])
    assert caplog.text.count("left out: ") == 6  # each once for each set that was loaded


def test_images_of_an_evaluation_that_cannot_be_read_are_left_out(damaged):
    ((x, labels),) = load_data(str(damaged), resolution=24, on_bad_image="skip").batches("val", ALONE)
    assert (len(x), labels.tolist()) == (2, [0, 2])
    with pytest.raises(InputError, match=r"bee/0000\.png is no image that can be read"):
        list(load_data(str(damaged), resolution=24).batches("val", ALONE))


def test_a_set_that_cannot_be_read_at_all(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    for path in root.rglob("*.png"):
        path.write_bytes(b"damaged")
    data = load_data(str(root), resolution=24, on_bad_image="skip")
    with pytest.raises(InputError, match=r"is no image that can be read .*\. 6 images in a row cannot be read"):
        epoch(data, size=2)
    assert list(data.batches("val", ALONE)) == []


def test_images_are_turned_upright_and_made_rgb(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    path = root / "val" / "ant" / "0000.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image(0, 0).convert("P").save(path, exif=exif)
    transforms = Transforms(30, 24, (0.5,) * 3, (0.5,) * 3)
    ((x, _),) = load_data(str(root), resolution=24, transforms=transforms).batches("val", ALONE)
    assert torch.equal(x[0], transforms.open(path))
    grey = Transforms(30, 24, (0.5,), (0.5,))
    ((x, _),) = load_data(str(root), resolution=24, transforms=grey).batches("val", ALONE)
    assert x.shape == (3, 1, 24, 24)


def test_batches_are_read_in_the_order_of_the_rows():
    images = DatasetImages("made here", lambda index: image(index % 3, index), np.array([0, 1, 2] * 3))
    rows = [np.array([4, 0]), np.array([8])]
    pixels = Transforms(8, 8, (0.5,) * 3, (0.5,) * 3)
    batches = list(read_batches(images, rows, lambda image, index: eval_image(pixels, image), 0))
    assert [found.tolist() for _, found in batches] == [[4, 0], [8]]
    assert [x.shape for x, _ in batches] == [(2, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.equal(batches[0][0][1], pixels.pixels(image(0, 0)))
    assert list(read_batches(images, [], eval_image, 2)) == []


@pytest.mark.parametrize("kind", ["none", "crop_flip", "resized_crop_flip", "autoaugment"])
def test_the_changes_of_an_image_are_its_seed_and_index(kind):
    transforms, picked = Transforms(28, 24, (0.5,) * 3, (0.5,) * 3), image(1, 5, (60, 48))
    first = train_image(kind, transforms, 3, picked, 7)
    assert (first.shape, first.dtype) == ((3, 24, 24), torch.uint8)
    assert torch.equal(train_image(kind, transforms, 3, picked, 7), first)
    others = [train_image(kind, transforms, 3, picked, index) for index in range(8)]
    assert any(not torch.equal(other, first) for other in others) == (kind != "none")


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_and_processes_are_the_same_for_a_gpu(damaged, workers, monkeypatch):
    here = load_data(str(damaged), resolution=24, on_bad_image="skip")
    there = on_device(load_data(str(damaged), resolution=24, workers=workers, on_bad_image="skip"), CUDA)
    expected = epoch(here, "autoaugment", 4), list(here.batches("val", ALONE))
    parts = [epoch(here, "flip", 4, ProcessRank(rank, 2), start=1) for rank in range(2)]
    with sent_to_the_host(monkeypatch):
        found = epoch(there, "autoaugment", 4), list(there.batches("val", ALONE))
        assert all(map(same, found, expected))
        for rank, part in enumerate(parts):
            assert same(epoch(there, "flip", 4, ProcessRank(rank, 2), start=1), part)
    assert there.bad.met == here.bad.met


def test_an_image_that_ends_a_run_on_a_gpu_ends_it_at_the_same_batch(damaged, monkeypatch):
    here = load_data(str(damaged), resolution=24)
    read = {}
    for data in (here, on_device(here, CUDA)):
        batches = enumerate(data.epoch("none", 2, np.random.default_rng(0), ALONE), start=1)
        with sent_to_the_host(monkeypatch), pytest.raises(InputError, match="is no image that can be read"):
            read.update((data.device, number) for number, _ in batches)
    assert read[here.device] == read[CUDA] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_a_gpu_are_those_of_the_host(damaged, workers):
    torch.zeros(1, device=CUDA)  # workers start after CUDA is initialised
    here = load_data(str(damaged), resolution=24, on_bad_image="skip")
    there = on_device(load_data(str(damaged), resolution=24, workers=workers, on_bad_image="skip"), CUDA)
    for _ in range(3):
        found = [*epoch(there, "autoaugment", 4), *there.batches("val", ALONE)]
        assert {tensor.device for batch in found for tensor in batch} == {CUDA}
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in found)
        expected = [*epoch(here, "autoaugment", 4), *here.batches("val", ALONE)]
        assert same([(x.cpu(), labels.cpu()) for x, labels in found], expected)
    assert there.bad.met == here.bad.met


@pytest.mark.parametrize("kind", ["none", "flip", "crop_flip", "resized_crop_flip", "autoaugment"])
def test_the_transform_of_a_recipe_gives_inputs(folder, kind):
    """In a DataLoader with workers too: a float batch, with other changes in every epoch and from every seed."""
    transforms = Transforms(26, 20, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    transform = train_transform(RECIPE.replace(augmentation=kind), transforms)
    picture = Image.open(next((folder / "train").rglob("*.png")))
    torch.manual_seed(3)
    found = transform(picture)
    torch.manual_seed(3)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    assert torch.equal(found, transforms.normalise(train_image(kind, transforms, seed, picture, 0)))
    images = ImageFolder(folder / "train", transform)
    loader = DataLoader(images, 30, num_workers=2 if kind == "autoaugment" else 0, generator=torch.Generator())
    (first, _), (second, _) = (next(iter(loader)) for _ in range(2))
    assert (first.dtype, first.shape) == (torch.float32, (30, 3, 20, 20))
    assert torch.equal(first, second) == (kind == "none")


def test_the_transform_of_a_recipe_takes_16_bit_grey():
    grey = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16))
    white = train_transform(RECIPE.replace(augmentation="resized_crop_flip"), Transforms(8, 4, (0.0,), (1.0,)))(grey)
    assert white.tolist() == torch.ones(1, 4, 4).tolist()
