"""Sets of torchvision and Hugging Face, made here in their formats, and texts that name nothing."""

import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
from torchvision import datasets as theirs

from fbnetv3 import InputError
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.sources import open_image_source
from tests.places import SHARED
from tests.training.data.examples import ALONE, CLASSES, epoch, make_folder, png, same

CIFAR = SHARED / "data" / "cifar10_test.tar.xz"


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


def test_hugging_face_sets(folder, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    data = load_data(f"hfds/{folder}", resolution=24)
    assert data.classes == CLASSES
    assert [data.count(split) for split in ("train", "val", "test")] == [30, 12, 9]
    plain = load_data(str(folder), resolution=24)
    assert same(list(data.batches("test", ALONE)), list(plain.batches("test", ALONE)))
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


@pytest.mark.parametrize("spec", ["hfids/cifar10", "tfds/cifar10"])
def test_streams_are_refused(spec):
    with pytest.raises(InputError, match=f"data '{spec}' can only be streamed.*use hfds/NAME"):
        open_image_source(spec)


def test_a_set_without_train_is_refused(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "set", (("train", 1), ("val", 1)))
    found = open_image_source(str(root))
    del found.splits["train"]
    monkeypatch.setattr("fbnetv3.training.data.sources.open_folder", lambda _: found)
    with pytest.raises(InputError, match="has no labelled split train, but val"):
        open_image_source(str(root))
