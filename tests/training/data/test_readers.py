"""ImageCollection on disk, in memory and in other people's formats, all made here; what must not change what is read."""

import gzip
import io
import json
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as theirs

from fbnetv3 import InputError
from fbnetv3.training.data.augment import KINDS
from fbnetv3.training.data.load import choose, load_data
from fbnetv3.training.data.memory import ImageData
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.readers import ReaderData
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms
from tests.places import SHARED

ALONE = ProcessRank()
CLASSES = ("ant", "bee", "cow")
CIFAR = SHARED / "data" / "cifar10_test.tar.xz"


def picture(label, number, size=(40, 32), mode="RGB"):
    """A picture that shows its class as its red (or grey) level, and its number as a gradient."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] = 60 * label + 20
    pixels[..., 1] = np.linspace(0, 8 * number + 40, size[0]).astype(np.uint8)
    pixels[..., 2] = np.linspace(0, 200, size[1]).astype(np.uint8)[:, None]
    image = Image.fromarray(pixels)
    return Image.fromarray(pixels[..., 0]) if mode == "L" else image.convert(mode)


def png(label, number):
    buffer = io.BytesIO()
    picture(label, number).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root, splits=(("train", 10), ("val", 4), ("test", 3)), ending="png", **options):
    for split, count in splits:
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture(label, number, **options).save(folder / f"{number:04d}.{ending}")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("set") / "animals")


def epoch(data, kind="none", size=6, process=ALONE, start=0, seed=0):
    return list(data.epoch(kind, size, np.random.default_rng(seed), process, start))


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) and torch.equal(k, n) for (x, k), (y, n) in zip(a, b, strict=True)
    )


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
    parts = [list(data.batches("test", ProcessRank(rank, 2))) for rank in range(2)]
    assert [[len(k) for _, k in part] for part in parts] == [[5], [4]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_does_not_depend_on_share_and_start(folder, kind):
    data = load_data(str(folder), resolution=24)
    whole = epoch(data, kind)
    assert len(whole) == 5
    assert same(epoch(data, kind, start=3), whole[3:])
    parts = [epoch(data, kind, process=ProcessRank(rank, 2), start=1) for rank in range(2)]
    assert same([(torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in zip(*parts, strict=True)], whole[1:])
    assert not same(epoch(data, kind, seed=1), whole)


def test_workers_change_nothing_and_leave_torchs_generator_alone(folder):
    state = torch.get_rng_state()
    alone, two = (load_data(str(folder), resolution=24, workers=workers) for workers in (0, 2))
    assert same(epoch(two, "autoaugment"), epoch(alone, "autoaugment"))
    assert same(list(two.batches("val", ALONE)), list(alone.batches("val", ALONE)))
    assert torch.equal(torch.get_rng_state(), state)
    assert alone.name == two.name


def test_worker_processes_can_be_started_afresh(folder):
    """Where they do not begin as copies of this process, what they need is pickled."""
    data = load_data(str(folder), resolution=24, limit=5)
    assert same(epoch(pickle.loads(pickle.dumps(data)), "autoaugment"), epoch(data, "autoaugment"))


def test_everything_random_is_drawn_at_once_and_alike(folder):
    data, after = load_data(str(folder), resolution=24), []
    for process, start in ((ALONE, 0), (ProcessRank(1, 2), 4)):
        rng = np.random.default_rng(0)
        data.epoch("autoaugment", 6, rng, process, start)
        after.append(rng.integers(2**62))
    assert after[0] == after[1]


def test_skipped_batches_are_not_read(tmp_path):
    data = load_data(str(make_folder(tmp_path / "set", (("train", 4), ("val", 1)))), resolution=24)
    order = np.random.default_rng(0)
    order.integers(2**62)
    first = order.permutation(12)[:6]
    for row in first:
        (tmp_path / "set" / "train" / data.splits["train"].name(int(row))).write_bytes(b"damaged")
    assert len(epoch(data, start=1)) == 1
    with pytest.raises(InputError, match="is no picture that can be read"):
        epoch(data)


def test_every_picture_and_pass_has_its_own_changes(folder):
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
    assert len({x[2].numpy().tobytes() for x in first.values()}) == 3  # the blue of all three pictures is one
    for kind in ("flip", "resized_crop_flip"):
        flips = [bool(x[0, 1, 12, 23] < x[0, 1, 12, 0]) for s in range(40) for x, _ in epoch(data, kind, 3, seed=s)]
        assert 10 < sum(flips) < 30


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named(tmp_path, workers):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)), "jpg")
    path = root / "train" / "bee" / "0001.jpg"
    path.write_bytes(path.read_bytes()[:200])
    data = load_data(str(root), resolution=24, workers=workers)
    with pytest.raises(InputError, match=rf"^{path} is no picture that can be read \(.*\); mend it or take it out"):
        epoch(data)
    path.unlink()
    with pytest.raises(InputError, match=r"0001\.jpg is no picture .*FileNotFoundError"):
        epoch(data)


def test_pictures_are_turned_upright_and_made_rgb(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    path = root / "val" / "ant" / "0000.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture(0, 0).convert("P").save(path, exif=exif)
    transforms = Transforms(30, 24, (0.5,) * 3, (0.5,) * 3)
    ((x, _),) = load_data(str(root), resolution=24, transforms=transforms).batches("val", ALONE)
    assert torch.equal(x[0], transforms.open(path))
    grey = Transforms(30, 24, (0.5,), (0.5,))
    ((x, _),) = load_data(str(root), resolution=24, transforms=grey).batches("val", ALONE)
    assert x.shape == (3, 1, 24, 24)


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


def test_a_subset_is_the_same_one_always_and_has_another_name(folder):
    data, again = (load_data(str(folder), resolution=24, limit=3) for _ in range(2))
    assert [data.count(split) for split in ("train", "val", "test")] == [9, 9, 9]
    assert same(epoch(data, size=9), epoch(again, size=9))
    assert "3 a class" in data.name
    names = {load_data(str(folder), resolution=r, limit=n).name for r in (24, 32) for n in (None, 3, 4)}
    assert len(names) == 6
    own = load_data("fashion_mnist", limit=2)
    assert (own.name, own.count("train"), own.count("test")) == ("fashion_mnist (2 a class)", 20, 20)
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


def test_the_name_tells_other_pictures_of_the_same_folder(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)))
    before = load_data(str(root)).name
    moved = root.rename(tmp_path / "elsewhere").rename(tmp_path / "set")
    assert load_data(str(moved)).name == before
    (root / "train" / "ant" / "0002.png").rename(root / "train" / "ant" / "0003.png")
    assert load_data(str(root)).name != before


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


def test_grey_pictures_in_memory_have_one_channel(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)), size=(20, 20), mode="L")
    assert load_data(f"memory:{root}").train.images.shape == (9, 1, 20, 20)
    picture(0, 0, (20, 20)).save(root / "train" / "bee" / "0001.png")
    assert load_data(f"memory:{root}").train.images.shape == (9, 3, 20, 20)


def test_pictures_of_several_sizes_need_a_resolution_in_memory(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3), ("val", 1)), size=(20, 20))
    picture(0, 0, (24, 20)).save(root / "train" / "bee" / "0001.png")
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
        ("memory:cifar11", {}, "unknown data set 'cifar11'"),
        ("torchvision:cifar11:/x", {}, "expected torchvision:NAME:FOLDER; available names: cifar10, cifar100"),
        ("torchvision:cifar10", {}, "expected torchvision:NAME:FOLDER"),
        ("torchvision:cifar10:/nowhere", {}, r"cannot open torchvision's CIFAR10 in /nowhere: .*; give the folder"),
        ("hfids/cifar10", {}, "data 'hfids/cifar10' can only be streamed.*use hfds/NAME"),
        ("tfds/cifar10", {}, "can only be streamed"),
        ("wds//nowhere", {}, r"no shards in /nowhere; expected tar files .* such as train-0000\.tar"),
        ("list:", {}, "expected list:LISTS:FOLDER, LISTS with train.txt"),
        ("list:/lists", {}, "expected list:LISTS:FOLDER"),
        ("list:/nowhere:/x", {}, r"no file /nowhere/train\.txt; file lists are train\.txt, and likewise val\.txt"),
        ("/x", {"download": True}, "data '/x' is not downloaded; only torchvision:NAME:FOLDER is"),
        ("fashion_mnist", {"download": True}, "data 'fashion_mnist' is not downloaded"),
        ("fashion_mnist", {"resolution": 32}, "fashion_mnist has images of 28 x 28 pixels; leave out resolution"),
        ("fashion_mnist", {"resolution": 0}, "resolution is 0; allowed: whole numbers from 1"),
        ("fashion_mnist", {"limit": 0}, "limit is 0; allowed"),
        ("fashion_mnist", {"workers": -1}, "workers is -1; allowed: whole numbers from 0"),
    ],
)
def test_what_is_wrong_is_said(spec, options, message):
    with pytest.raises(InputError, match=message):
        load_data(spec, **options)


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_data("~/animals", resolution=24).name == load_data(str(folder), resolution=24).name


def test_folders_of_another_layout(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*train; a folder of pictures is laid out as train/CLASS/PICTURE"):
        load_data(str(tmp_path))
    root = make_folder(tmp_path / "set", (("training", 2), ("validation", 1)))
    assert load_data(str(root)).count("val") == 3
    (root / "validation" / "cow").rename(root / "validation" / "dog")
    with pytest.raises(InputError, match="have different classes: cow, dog are in one of them alone"):
        load_data(str(root))
    (root / "training" / "eel").mkdir()
    with pytest.raises(InputError, match=r"eel.*a split is laid out as CLASS/PICTURE, every class with a picture"):
        load_data(str(root))
    data = make_folder(tmp_path / "five", (("train", 1), ("val", 1)))
    with pytest.raises(InputError, match="transforms: 5 channels; allowed for pictures: 1"):
        load_data(str(data), transforms=Transforms(8, 8, (0.5,) * 5, (0.5,) * 5))
    with pytest.raises(InputError, match="takes no transforms"):
        load_data(f"memory:{data}", transforms=Transforms(8, 8, (0.5,) * 3, (0.5,) * 3))


def write_lists(folder, **lists):
    folder.mkdir(exist_ok=True)
    for name, paths in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{path}\n" for path in paths))
    return folder


def test_file_lists(folder, tmp_path):
    train = [f"train/{name}/{number:04d}.png" for number in (7, 2, 0) for name in ("cow", "ant")]
    lists = write_lists(tmp_path / "lists", train=train, validation=["train/cow/0009.png", "val/ant/0001.png"])
    data = load_data(f"list:{lists}:{folder}", resolution=24, workers=2)
    assert data.classes == ("ant", "cow")
    assert [data.count(split) for split in ("train", "val")] == [6, 2]
    assert [data.splits["train"].name(i) for i in range(6)] == train
    ((x, labels),) = data.batches("val", ALONE)
    assert labels.tolist() == [1, 0]
    paths = [folder / "train" / "cow" / "0009.png", folder / "val" / "ant" / "0001.png"]
    assert torch.equal(x, torch.stack([data.transforms.open(path) for path in paths]))
    assert data.name.startswith("list:lists:animals (24 px")
    small = load_data(f"memory:list:{lists}:{folder}", resolution=10)
    assert small.train.images.shape == (6, 3, 10, 10)
    (lists / "validation.txt").unlink()
    held = load_data(f"list:{lists}:{folder}", resolution=24)
    assert [held.count(split) for split in ("train", "val")] == [4, 2]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"val": ["val/ant/0000.png"]}, r"no file .*train\.txt"),
        ({"train": []}, r"train\.txt: it is empty; give paths below the folder of pictures"),
        ({"train": ["ant/0000.png"]}, r"train\.txt: no picture .*animals/ant/0000\.png; give paths below"),
        ({"train": ["train/ant/0000.png", ""]}, r"train\.txt, line 2: '' has no folder to name its class"),
        ({"train": ["train/ant/0000.png", "0001.png"]}, r"line 2: '0001\.png' has no folder"),
        ({"train": ["train/ant/0000.png"], "test": ["test/bee/0000.png"]}, r"test\.txt has classes that .* lacks: bee"),
    ],
)
def test_file_lists_with_mistakes(folder, tmp_path, lists, message):
    with pytest.raises(InputError, match=message):
        load_data(f"list:{write_lists(tmp_path / 'lists', **lists)}:{folder}")


def test_a_picture_that_a_list_names_and_nobody_has_is_named(folder, tmp_path):
    lists = write_lists(
        tmp_path / "lists", train=["train/ant/0000.png", "train/ant/none.png"], val=["val/ant/0000.png"]
    )
    data = load_data(f"list:{lists}:{folder}", resolution=24)
    with pytest.raises(InputError, match=r"animals/train/ant/none\.png is no picture that can be read \(FileNotFound"):
        epoch(data, size=2)


def test_torchvisions_mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 30), ("t10k", 6)):
        pixels = np.arange(count * 784).reshape(count, 28, 28).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    data = load_data(f"memory:torchvision:mnist:{tmp_path}")
    assert [data.count(split) for split in ("train", "val", "test")] == [20, 10, 6]
    assert data.test.images.shape == (6, 1, 28, 28)
    assert data.test.images[1, 0, 0, :3].tolist() == [16, 17, 18]
    assert data.classes[3] == "3 - three"
    assert data.name.startswith("memory:torchvision:mnist (28 px, val: 10% of train")
    assert load_data(f"torchvision:mnist:{tmp_path}", resolution=28).count("train") == 20


def test_torchvisions_cifar10(tmp_path, monkeypatch):
    """The layout of the original, with few images; torchvision checks the hash of the real files."""
    monkeypatch.setattr(theirs.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(theirs.cifar, "check_integrity", lambda *_: True)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))}
        (base / name).write_bytes(pickle.dumps(content))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    data = load_data(f"memory:torchvision:cifar10:{tmp_path}")
    assert data.classes == tuple(names)
    assert [data.count(split) for split in ("train", "val", "test")] == [40, 10, 10]
    assert np.array_equal(data.test.images[9].flatten(), content["data"][9])
    assert epoch(data, "autoaugment", 20)[0][0].shape == (20, 3, 32, 32)
    assert load_data(f"torchvision:cifar10:{tmp_path}", resolution=32, workers=2).count("val") == 10


def write_shard(path, count, first=0, spoil=None):
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            files = {"png": png(number % 3, number), "cls": str(number % 3).encode(), "json": b"{}"}
            if number == spoil:
                files["png"] = files["png"][:100]
            for ending, content in files.items():
                entry = tarfile.TarInfo(f"a.b/{number:06d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def test_webdataset_shards(tmp_path, folder):
    for shard in range(2):
        write_shard(tmp_path / f"strain-train-{shard:04d}.tar", 6, 6 * shard)
    write_shard(tmp_path / "strain-validation-0000.tar", 3, spoil=1)
    data = load_data(f"wds/{tmp_path}", resolution=24)
    assert data.classes == ("0", "1", "2")
    assert (data.count("train"), data.count("val")) == (12, 3)
    train = data.splits["train"]
    assert train.name(7) == "strain-train-0001.tar:a.b/000007"
    assert np.array_equal(np.array(train.read(7)), np.array(picture(1, 7)))
    whole = epoch(data, "resized_crop_flip")
    assert same(epoch(load_data(f"wds/{tmp_path}", resolution=24, workers=2), "resized_crop_flip"), whole)
    with pytest.raises(InputError, match=r"strain-validation-0000.tar:a.b/000001 is no picture that can be read"):
        list(data.batches("val", ALONE))
    info = {"splits": {"train": {"name": "train", "filenames": ["strain-train-0001.tar"], "num_samples": 6}}}
    (tmp_path / "_info.json").write_text(json.dumps(info))
    assert load_data(f"wds/{tmp_path}").count("train") == 3
    (tmp_path / "_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"_info\.json: expected splits, each with filenames"):
        load_data(f"wds/{tmp_path}")


def test_damaged_shards(tmp_path):
    path = tmp_path / "train-0.tar"
    path.write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(InputError, match=r"train-0\.tar is no WebDataset shard that can be read"):
        load_data(f"wds/{tmp_path}")
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("1.cls")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"1"))
    with pytest.raises(InputError, match=r"sample '1' needs a jpg or jpeg or png or webp, and a cls file"):
        load_data(f"wds/{tmp_path}")


def test_hugging_face_sets(folder, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    data = load_data(f"hfds/{folder}", resolution=24)
    assert data.classes == CLASSES
    assert [data.count(split) for split in ("train", "val", "test")] == [30, 12, 9]
    own = load_data(str(folder), resolution=24)
    assert same(list(data.batches("test", ALONE)), list(own.batches("test", ALONE)))
    assert same(epoch(load_data(f"hfds/{folder}", resolution=24, workers=2), "flip"), epoch(data, "flip"))
    with pytest.raises(InputError, match="columns of type ClassLabel are label; one is needed"):
        load_data(f"hfds/{folder}#fine_label")
    with pytest.raises(InputError, match="cannot open the Hugging Face data set '/nowhere'"):
        load_data("hfds//nowhere")


def test_hugging_face_columns_and_secret_labels(tmp_path, monkeypatch):
    hub = pytest.importorskip("datasets", reason="the package datasets is not installed")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    root, names = tmp_path / "set", hub.ClassLabel(names=["pest", "other"])
    root.mkdir()
    features = hub.Features({"img": hub.Image(), "fine": hub.ClassLabel(names=list(CLASSES)), "coarse": names})
    for split, count, sign in (("train", 9, 1), ("test", 3, -1)):
        rows = {
            "img": [{"bytes": png(i % 3, i), "path": None} for i in range(count)],
            "fine": [i % 3 for i in range(count)],
            "coarse": [sign * (i % 2) for i in range(count)],
        }
        parquet.write_table(pyarrow.table(rows, schema=features.arrow_schema), root / f"{split}-00000.parquet")
    fine = load_data(f"hfds/{root}#fine", resolution=24)
    assert (fine.classes, fine.count("train"), fine.count("val"), fine.count("test")) == (CLASSES, 6, 3, 3)
    coarse = load_data(f"hfds/{root}#coarse", resolution=24)
    assert coarse.classes == ("pest", "other")
    with pytest.raises(InputError, match="unknown split 'test'"):
        coarse.count("test")
    with pytest.raises(InputError, match=r"columns of type ClassLabel are fine, coarse; .* hfds/NAME#COLUMN"):
        load_data(f"hfds/{root}")


def test_hugging_face_sets_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r'needs the package datasets; run: pip install "fbnetv3\[hf\]"'):
        load_data("hfds/cifar10")


@pytest.mark.slow
def test_cifar10_as_jpeg_files(tmp_path):
    if not CIFAR.exists():
        pytest.skip("the JPEG files of CIFAR-10 are not beside this checkout")
    with tarfile.open(CIFAR) as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "cifar10" / "test").rename(tmp_path / "cifar10" / "train")
    data = load_data(f"memory:{tmp_path / 'cifar10'}", limit=500)
    assert (data.count("train"), data.count("val"), len(data.classes)) == (5000, 1000, 10)
    assert (data.mean, data.std) == (pytest.approx(0.473, abs=0.005), pytest.approx(0.251, abs=0.005))
    assert data.train.images.shape[1:] == (3, 32, 32)
