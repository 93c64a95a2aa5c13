"""Data by a text: what is held out, subsets, names, sets in memory, mistakes."""

import numpy as np
import pytest
import torch
from PIL import Image

from fbnetv3 import InputError
from fbnetv3.training.data.image_files import DatasetImages
from fbnetv3.training.data.load import ImageSubset, choose, image_side, load_data
from fbnetv3.training.data.memory import ImageData
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.protocol import search_images, training_images
from fbnetv3.transforms import Transforms
from tests.training.data.examples import CLASSES, epoch, image, make_folder, same


def test_val_is_held_out_where_there_is_none(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 20), ("test", 1)))
    data = load_data(str(root), resolution=24)
    assert [data.count(split) for split in ("train", "val", "test")] == [54, 6, 3]
    assert "val: 10% of train, seed 0" in data.name
    train, val = ({data.splits[s].name(i) for i in range(data.count(s))} for s in ("train", "val"))
    assert not train & val
    assert len(train | val) == 60
    assert np.bincount(data.splits["val"].labels).tolist() == [2, 2, 2]
    assert load_data(str(root), resolution=24).name == data.name
    root = make_folder(tmp_path / "one", (("train", 1),))
    with pytest.raises(InputError, match="one has one image a class and no val"):
        load_data(str(root))
    root = make_folder(tmp_path / "two", (("train", 2),))
    data = load_data(str(root))
    assert (data.count("train"), data.count("val")) == (3, 3)
    with pytest.raises(InputError, match="unknown split 'test'"):
        data.count("test")


def test_a_subset_is_always_the_same_and_has_another_name(folder):
    data, again = (load_data(str(folder), resolution=24, limit=3) for _ in range(2))
    assert [data.count(split) for split in ("train", "val", "test")] == [9, 9, 9]
    assert same(epoch(data, size=9), epoch(again, size=9))
    assert "3 a class" in data.name
    names = {load_data(str(folder), resolution=r, limit=n).name for r in (24, 32) for n in (None, 3, 4)}
    assert len(names) == 6
    packaged = load_data("fashion_mnist", limit=2)
    assert (packaged.name, packaged.count("train"), packaged.count("test")) == ("fashion_mnist (2 a class)", 20, 20)
    assert load_data("fashion_mnist") is fashion_mnist()


def test_choosing_is_by_class():
    labels = np.array([1, 0, 1, 1, 0, 1, 2])
    marked = choose(labels, lambda count: count // 2, 0)
    assert np.bincount(labels[marked], minlength=3).tolist() == [1, 2, 0]
    others = np.concatenate([labels, [2, 2, 2]])
    assert (choose(others, lambda count: count // 2, 0)[:6] == marked[:6]).all()
    assert len({tuple(choose(labels, lambda count: 1, seed)) for seed in range(20)}) > 3
    ordered = choose(np.repeat([0, 1], 50), lambda count: 5, 0)
    assert (ordered[:50] != ordered[50:]).any()


def test_other_images_in_the_same_folder_have_another_name(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)))
    before = load_data(str(root)).name
    moved = root.rename(tmp_path / "elsewhere").rename(tmp_path / "set")
    assert load_data(str(moved)).name == before
    (root / "train" / "ant" / "0002.png").rename(root / "train" / "ant" / "0003.png")
    assert load_data(str(root)).name != before


def test_the_images_that_a_training_depends_on_have_a_name_of_their_own(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 2), ("test", 2)), size=(20, 20))
    for spec in (str(root), f"memory:{root}"):
        before = load_data(spec)
        assert training_images(before) == before.train_name != before.name
        for split, same_name in (("test", True), ("val", True), ("train", False)):
            (root / split / "ant" / "0001.png").rename(tmp_path / "away.png")
            after = load_data(spec)
            assert after.name != before.name
            assert (training_images(after) == training_images(before)) == same_name
            assert (search_images(after) == search_images(before)) == (split == "test")
            (tmp_path / "away.png").rename(root / split / "ant" / "0001.png")
    assert training_images(fashion_mnist()) == "fashion_mnist"


def test_images_that_cannot_be_read_are_left_out_of_the_memory(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 2)), size=(20, 20))
    before = load_data(f"memory:{root}")
    for name in ("train/ant/0000.png", "val/cow/0001.png"):
        (root / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"ant/0000\.png is no image that can be read"):
        load_data(f"memory:{root}")
    data = load_data(f"memory:{root}", on_bad_image="skip")
    assert [data.count(split) for split in ("train", "val")] == [8, 5]
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(data.train.images, before.train.images[1:])
    assert {split: sorted(met) for split, met in data.bad.met.items()} == {"train": [0], "val": [5]}
    assert "2 left out" in data.name
    assert "1 left out" in data.train_name
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="no image of val can be read"):
        load_data(f"memory:{root}", on_bad_image="skip")
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="no image of train can be read"):
        load_data(f"memory:{root}", on_bad_image="skip")


def test_in_memory(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 10), ("test", 2)), size=(20, 20))
    data = load_data(f"memory:{root}")
    assert isinstance(data, ImageData)
    assert data.classes == CLASSES
    assert [data.count(split) for split in ("train", "val", "test")] == [27, 3, 6]
    assert data.train.images.shape == (27, 3, 20, 20)
    paths = sorted((root / "test").rglob("*.png"))
    want = np.stack([np.array(Image.open(path)).transpose(2, 0, 1) for path in paths])
    assert np.array_equal(data.test.images.numpy(), want)
    assert data.mean == pytest.approx(data.train.images.double().mean().item() / 255)
    assert (data.transforms.resize, data.transforms.crop, data.in_chans) == (20, 20, 3)
    assert data.name.startswith("memory:set (20 px, val: 10% of train, seed 0, id ")
    small = load_data(f"memory:{root}", resolution=10, workers=2)
    assert small.train.images.shape == (27, 3, 10, 10)
    assert torch.equal(small.train.images, load_data(f"memory:{root}", resolution=10).train.images)


def test_grey_images_in_memory_have_one_channel(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)), size=(20, 20), mode="L")
    assert load_data(f"memory:{root}").train.images.shape == (9, 1, 20, 20)
    image(0, 0, (20, 20)).save(root / "train" / "bee" / "0001.png")
    assert load_data(f"memory:{root}").train.images.shape == (9, 3, 20, 20)


def test_images_of_several_sizes_need_a_resolution_in_memory(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)), size=(20, 20))
    image(0, 0, (24, 20)).save(root / "train" / "bee" / "0001.png")
    with pytest.raises(
        InputError, match=r"bee/0001.png has 24 x 20 pixels; .* one size, here 20 .*: give a resolution"
    ):
        load_data(f"memory:{root}")
    assert load_data(f"memory:{root}", resolution=12).train.images.shape == (9, 3, 12, 12)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(folder):
    with pytest.raises(InputError, match=r"51 images of 9000 x 9000 pixels take 11\.5 GiB.*allowed: 4; leave out"):
        load_data(f"memory:{folder}", resolution=9000)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "cifar11",
            {},
            r"unknown data set 'cifar11'; available: the package's fashion_mnist; a folder .*torchvision:NAME",
        ),
        ("", {}, "data '' names no images; give a data set, or the path of a folder"),
        ("x" * 300, {}, r"data 'x+\.\.\. names no images"),
        ("x/" * 3000, {}, r"data '[x/]+\.\.\. names no images"),
        ("list:/a:/b\0c", {}, "names no images"),
        ("\ud800", {}, "names no images"),
        ("~nobody_is_called_so/x", {}, "unknown data set '~nobody_is_called_so/x'"),
        ("wds/~nobody_is_called_so", {}, "no shards in ~nobody_is_called_so"),
        ("memory:cifar11", {}, "unknown data set 'cifar11'"),
        ("torchvision:cifar11:/x", {}, "expected torchvision:NAME:FOLDER; available names: cifar10, cifar100"),
        ("torchvision:cifar10", {}, "expected torchvision:NAME:FOLDER"),
        ("torchvision:cifar10:/nowhere", {}, r"cannot open torchvision's CIFAR10 in /nowhere: .*; give the folder"),
        ("hfids/cifar10", {}, "data 'hfids/cifar10' can only be streamed.*use hfds/NAME"),
        ("tfds/cifar10", {}, "can only be streamed"),
        ("wds//nowhere", {}, r"no shards in /nowhere; expected tar files .* such as train-0000\.tar"),
        ("list:", {}, "expected list:LISTS:FOLDER, where LISTS has train.txt"),
        ("list:/lists", {}, "expected list:LISTS:FOLDER"),
        ("list:/nowhere:/x", {}, r"no file /nowhere/train\.txt; file lists are train\.txt, and likewise val\.txt"),
        ("/x", {"download": True}, "data '/x' cannot be downloaded; only torchvision:NAME:FOLDER can"),
        ("fashion_mnist", {"download": True}, "data 'fashion_mnist' cannot be downloaded"),
        ("fashion_mnist", {"resolution": 32}, "fashion_mnist has images of 28 x 28 pixels; leave out resolution"),
        ("fashion_mnist", {"resolution": 0}, "resolution is 0; allowed: whole numbers from 1"),
        ("fashion_mnist", {"limit": 0}, "limit is 0; allowed"),
        ("fashion_mnist", {"on_bad_image": "ignore"}, "on_bad_image is 'ignore'; allowed: skip, fail"),
        ("fashion_mnist", {"workers": -1}, "workers is -1; allowed: whole numbers from 0"),
    ],
)
def test_mistakes(spec, options, message):
    with pytest.raises(InputError, match=message):
        load_data(spec, **options)


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_data("~/animals", resolution=24).name == load_data(str(folder), resolution=24).name


def test_transforms_that_do_not_fit_the_data(folder):
    with pytest.raises(InputError, match="transforms: 5 channels; allowed for images: 1"):
        load_data(str(folder), transforms=Transforms(8, 8, (0.5,) * 5, (0.5,) * 5))
    with pytest.raises(InputError, match="takes no transforms, because images in memory are not cropped again"):
        load_data(f"memory:{folder}", transforms=Transforms(8, 8, (0.5,) * 3, (0.5,) * 3))


def test_a_set_of_the_package_has_its_size_and_others_get_the_networks():
    assert image_side("fashion_mnist", 224) is None
    assert image_side("/data", 224) == 224


def test_a_subset_of_a_collection():
    images = DatasetImages("made here", lambda index: image(0, index), np.array([5, 6, 7, 8]))
    subset = ImageSubset(images, np.array([3, 1]))
    assert subset.labels.tolist() == [8, 6]
    assert [subset.name(i) for i in range(2)] == ["image 3", "image 1"]
    assert np.array_equal(np.array(subset.read(0)), np.array(image(0, 3)))
