"""WebDataset's tar files: every image can be read at any time."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.shards import open_shards
from tests.training.data.examples import ALONE, epoch, image, png, same


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
    assert np.array_equal(np.array(train.read(7)), np.array(image(1, 7)))
    everything = epoch(data, "resized_crop_flip")
    assert same(epoch(load_data(f"wds/{tmp_path}", resolution=24, workers=2), "resized_crop_flip"), everything)
    with pytest.raises(InputError, match=r"strain-validation-0000.tar:a.b/000001 is no image that can be read"):
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


def test_a_label_that_is_no_file(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        folder = tarfile.TarInfo("1.cls")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with pytest.raises(InputError, match="sample '1' needs a jpg or jpeg or png or webp, and a cls file"):
        open_shards(tmp_path)


def test_shards_of_a_split_are_known_by_a_word_of_their_names(tmp_path):
    for name in ("set-train-0", "set_testing.1", "constrain-0"):  # the last one has no word of a split
        write_shard(tmp_path / f"{name}.tar", 3)
    found = open_shards(tmp_path)
    assert {split: images.shards for split, images in found.splits.items()} == {
        "train": (tmp_path / "set-train-0.tar",),
        "test": (tmp_path / "set_testing.1.tar",),
    }
