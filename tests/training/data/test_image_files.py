"""Images in folders and in lists of files, and images that are damaged."""

import numpy as np
import pytest
import torch
from PIL import Image

from fbnetv3 import InputError
from fbnetv3.training.data.image_files import DatasetImages, decode, open_folder, open_lists
from fbnetv3.training.data.load import load_data
from tests.training.data.examples import ALONE, CLASSES, epoch, image, make_folder


def write_lists(folder, **lists):
    folder.mkdir(exist_ok=True)
    for name, paths in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{path}\n" for path in paths))
    return folder


def test_a_folder_of_images(folder):
    source = open_folder(folder)
    assert (source.name, source.classes, list(source.splits)) == ("animals", CLASSES, ["train", "val", "test"])
    val = source.splits["val"]
    assert val.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert val.name(5) == "bee/0001.png"
    assert np.array_equal(np.array(val.read(5)), np.array(image(1, 1)))


def test_the_preferred_name_of_a_split_wins(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1), ("validation", 2)))
    assert len(open_folder(root).splits["val"].labels) == 3


def test_folders_of_another_layout(tmp_path):
    with pytest.raises(
        InputError, match=r"has no folders of classes; .*; a folder of images is laid out as train/CLASS"
    ):
        load_data(str(tmp_path))
    (tmp_path / "half" / "val").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no folder .*train; a folder of images is laid out as train/CLASS/IMAGE"):
        load_data(str(tmp_path / "half"))
    root = make_folder(tmp_path / "set", (("training", 2), ("validation", 1)))
    assert load_data(str(root)).count("val") == 3
    (root / "validation" / "cow").rename(root / "validation" / "dog")
    with pytest.raises(InputError, match="have different classes: only one of them has cow, dog"):
        load_data(str(root))
    (root / "training" / "eel").mkdir()
    with pytest.raises(
        InputError,
        match=r"has no image of eel; a split is laid out as CLASS/IMAGE, every class with at least one image",
    ):
        load_data(str(root))


def test_a_folder_of_classes_is_all_train(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 20),)) / "train"
    source = open_folder(root)
    assert (source.name, source.classes, list(source.splits)) == ("train", CLASSES, ["train"])
    data = load_data(str(root), resolution=16)
    assert (data.count("train"), data.count("val")) == (54, 6)  # a tenth of every class is held out
    # A folder of sets is no set whose classes are these sets.
    make_folder(tmp_path / "other", (("train", 2),))
    with pytest.raises(InputError, match=r"no folder .*train; a folder of images is laid out as"):
        open_folder(tmp_path)


def test_a_class_may_have_no_image_in_val(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    (root / "val" / "bee" / "0000.png").unlink()
    assert open_folder(root).splits["val"].labels.tolist() == [0, 2]


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path, caplog):
    root = make_folder(tmp_path / "set", (("train", 2), ("val", 1)))
    before = load_data(str(root)).name
    for place in (".ipynb_checkpoints", "ant/.ipynb_checkpoints", "cow/@eaDir"):
        (root / "train" / place).mkdir()
        image(0, 0).save(root / "train" / place / "0-checkpoint.png")
    (root / "train" / "ant" / "._0000.png").write_bytes(b"\0\5\x16\7")
    assert load_data(str(root)).name == before
    paths = [str(path.relative_to(root)) for path in sorted((root / "train").rglob("*.png"))]
    assert len(paths) == 6 + 4
    lists = write_lists(tmp_path / "lists", train=[path for path in paths if "ant/.ipynb" not in path])
    assert open_lists(lists, root).splits["train"].labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert "3 of the images that" in caplog.text


def test_images_below_a_hidden_folder_are_listed(tmp_path):
    root = make_folder(tmp_path / ".cache", (("train", 1),))
    lists = write_lists(tmp_path / "lists", train=[".cache/train/ant/0000.png"])
    assert open_folder(root).splits["train"].labels.tolist() == [0, 1, 2]
    assert open_lists(lists, tmp_path).splits["train"].labels.tolist() == [0]


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
        ({"train": []}, r"train\.txt: it is empty; give paths below the folder of images"),
        ({"train": ["ant/0000.png"]}, r"train\.txt: no image .*animals/ant/0000\.png; give paths below"),
        ({"train": ["train/ant/0000.png", "", "0001.png"]}, r"train\.txt, line 3: '0001\.png' has no folder to name"),
        ({"train": ["ant/" + "x" * 300 + ".png"]}, r"train\.txt: no image x+\.png; give paths below"),
        (
            {"train": ["train/ant/0000.png", "ant/" + "x" * 5000]},
            r"train\.txt, line 2: 'ant/x+\.\.\. is longer than any",
        ),
        ({"train": ["", " "]}, r"train\.txt: it is empty"),
        ({"train": ["train/ant/0000.png"], "test": ["test/bee/0000.png"]}, r"test\.txt has classes that .* lacks: bee"),
    ],
)
def test_file_lists_with_mistakes(folder, tmp_path, lists, message):
    with pytest.raises(InputError, match=message):
        load_data(f"list:{write_lists(tmp_path / 'lists', **lists)}:{folder}")


def test_blank_lines_and_a_byte_order_mark_are_no_images(folder, tmp_path):
    lists = write_lists(tmp_path / "lists", train=["\ufefftrain/ant/0000.png\r", "", "train/bee/0000.png", "", " "])
    assert open_lists(lists, folder).splits["train"].labels.tolist() == [0, 1]


def test_a_image_that_a_list_names_and_nobody_has_is_named(folder, tmp_path):
    lists = write_lists(
        tmp_path / "lists", train=["train/ant/0000.png", "train/ant/none.png"], val=["val/ant/0000.png"]
    )
    data = load_data(f"list:{lists}:{folder}", resolution=24)
    with pytest.raises(InputError, match=r"animals/train/ant/none\.png is no image that can be read \(FileNotFound"):
        epoch(data, size=2)


def test_lists_and_folders_have_the_same_images(folder, tmp_path):
    paths = [f"val/{name}/{number:04d}.png" for name in CLASSES for number in range(4)]
    listed = open_lists(write_lists(tmp_path / "lists", train=paths), folder).splits["train"]
    found = open_folder(folder).splits["val"]
    assert listed.labels.tolist() == found.labels.tolist()
    assert all(np.array_equal(np.array(listed.read(i)), np.array(found.read(i))) for i in range(12))


def test_images_of_another_librarys_set():
    def read(index):
        if index == 1:
            raise ValueError("no such row")
        return image(2, index)

    images = DatasetImages("hfds/animals train", read, np.array([2, 2]))
    assert images.name(0) == "image 0"
    assert np.array_equal(np.array(images.read(0)), np.array(image(2, 0)))
    with pytest.raises(InputError, match=r"^hfds/animals train, image 1 is no image .*ValueError: no such row"):
        images.read(1)


def test_decoded_images_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image(0, 0, (40, 32)).save(tmp_path / "turned.png", exif=exif)
    assert decode(lambda: Image.open(tmp_path / "turned.png"), "here").size == (32, 40)


def test_16_bit_grey_and_transparent_images_of_a_set(tmp_path):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(np.array(decode(lambda: Image.open(tmp_path / "grey.png"), "here")), grey // 257)
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert decode(lambda: Image.open(tmp_path / "clear.png"), "here").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(InputError, match=r"^here: the image has pixels of Pillow's mode F"):
        decode(lambda: Image.new("F", (2, 2)), "here")
