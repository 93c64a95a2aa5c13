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


def write_members(path, *members):
    """A tar file of (name, content), where content is bytes or a type of tar entry, which leads to the entry itself."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes) and content not in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.type, entry.linkname = content, name
                tar.addfile(entry)


@pytest.mark.parametrize(
    "label",
    [
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        b"9" * 30,
        b"1000000000",
        b"1000000",
        b"-1",
        b"cat",
        b"",
        b"9" * 5000,
        b" " * 5000 + b"1",
    ],
    ids=[
        "folder",
        "link",
        "hard link",
        "30 digits",
        "billion",
        "million",
        "negative",
        "word",
        "empty",
        "long",
        "blanks",
    ],
)
def test_a_label_that_is_no_number_of_a_class(tmp_path, label):
    write_members(tmp_path / "train-0.tar", ("1.png", png(0, 0)), ("1.cls", label))
    with pytest.raises(
        InputError, match="sample '1' needs a jpg or jpeg or png or webp, and a cls file with a number fro"
    ):
        open_shards(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_image_that_is_a_link_or_a_folder(tmp_path, kind):
    write_members(tmp_path / "train-0.tar", ("1.png", kind), ("1.cls", b"0"))
    with pytest.raises(InputError, match=r"sample '1' needs .* links and folders do not count"):
        open_shards(tmp_path)


def test_shards_without_samples(tmp_path):
    write_members(tmp_path / "train-0.tar")
    with pytest.raises(InputError, match=r"train-0\.tar: there is no sample in it"):
        open_shards(tmp_path)


def test_hidden_members_and_shards_are_left_out(tmp_path):
    hidden = (("._1.png", b"no"), ("./a/.DS_Store", b"no"), (".ipynb_checkpoints/1.png", png(1, 1)))
    write_members(
        tmp_path / "train-0.tar", *hidden, ("./a/1.png", png(0, 0)), ("./a/1.cls", b" 2\n"), ("../2.txt", b"")
    )
    (tmp_path / "._train-0.tar").write_bytes(b"no")
    with pytest.raises(InputError, match=r"sample '\.\./2' needs"):
        open_shards(tmp_path)
    write_members(tmp_path / "train-0.tar", *hidden, ("./a/1.png", png(0, 0)), ("./a/1.cls", b" 2\n"))
    train = open_shards(tmp_path).splits["train"]
    assert ([train.name(0)], train.labels.tolist()) == (["train-0.tar:./a/1"], [2])


@pytest.mark.parametrize("name", ["/etc/passwd", "../train-0.tar", "a/../../train-0.tar", "", 5, None, ["train-0.tar"]])
def test_names_of_shards_stay_in_the_folder(tmp_path, name):
    write_shard(tmp_path / "train-0.tar", 3)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "_info.json").write_text(json.dumps({"splits": {"train": {"filenames": [name]}}}))
    with pytest.raises(
        InputError, match=r"_info\.json: .* is no file in .*set; give the names of files below this folder"
    ):
        open_shards(tmp_path / "set")


def test_a_link_in_the_folder_may_lead_out(tmp_path):
    write_shard(tmp_path / "blob", 3)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.tar").symlink_to(tmp_path / "blob")
    (tmp_path / "set" / "_info.json").write_text(json.dumps({"splits": {"train": {"filenames": ["train-0.tar"]}}}))
    assert len(open_shards(tmp_path / "set").splits["train"].labels) == 3


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "[]", '{"splits": 3}', '{"splits": {"train": {}}}', "\ufeff{", "1" * 6000]
)
def test_a_list_of_shards_with_mistakes(tmp_path, text):
    (tmp_path / "_info.json").write_text(text)
    with pytest.raises(
        InputError, match=r"_info\.json(: expected splits, each with filenames| is no description of shards)"
    ):
        open_shards(tmp_path)


def test_a_shard_that_is_a_link_to_itself(tmp_path):
    (tmp_path / "train-0.tar").symlink_to(tmp_path / "train-0.tar")
    with pytest.raises(InputError, match=r"train-0\.tar is no WebDataset shard that can be read: "):
        open_shards(tmp_path)


def test_shards_of_a_split_are_known_by_a_word_of_their_names(tmp_path):
    for name in ("set-train-0", "set_testing.1", "constrain-0"):  # the last one has no word of a split
        write_shard(tmp_path / f"{name}.tar", 3)
    found = open_shards(tmp_path)
    assert {split: images.shards for split, images in found.splits.items()} == {
        "train": (tmp_path / "set-train-0.tar",),
        "test": (tmp_path / "set_testing.1.tar",),
    }
