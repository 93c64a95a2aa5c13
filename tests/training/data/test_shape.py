"""What a data set asks of a network, by hand."""

import pytest
from PIL import Image

from fbnetv3 import InputError
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.shape import DataShape, data_shape
from tests.training.data.examples import make_folder


def test_the_shape_of_a_folder_with_splits(tmp_path):
    root = make_folder(tmp_path / "set")  # images of 40 x 32 pixels in three classes
    assert data_shape(str(root)) == DataShape(3, 3, 32, 30)


def test_held_out_images_are_no_training_images(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 20),))
    assert data_shape(str(root / "train")).images == 54 == load_data(str(root / "train")).count("train")


def test_grey_images_have_one_channel_in_memory_alone_as_in_a_training(tmp_path):
    root = make_folder(tmp_path / "set", mode="L")
    for spec in (str(root), f"memory:{root}"):
        assert data_shape(spec).in_chans == load_data(spec, resolution=16).transforms.in_chans
    assert data_shape(f"memory:{root}").in_chans == 1


def test_the_side_is_the_median_of_the_shorter_sides(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i, size in enumerate([(90, 20), (50, 60), (30, 400)]):
            Image.new("RGB", size).save(tmp_path / label / f"{i}.png")
    (tmp_path / "train").mkdir()
    for label in ("a", "b"):
        (tmp_path / label).rename(tmp_path / "train" / label)
    (tmp_path / "val").symlink_to(tmp_path / "train")
    assert data_shape(str(tmp_path)).side == 30


def test_the_shape_of_a_set_of_the_package():
    shape = data_shape("fashion_mnist")
    assert (shape.in_chans, shape.num_classes, shape.side) == (1, 10, 28)
    assert shape.images == load_data("fashion_mnist").count("train")


@pytest.mark.parametrize("spec", ["", "absent"])
def test_data_that_is_not_there_is_refused(spec):
    with pytest.raises(InputError, match=r"names no images|unknown data set"):
        data_shape(spec)
