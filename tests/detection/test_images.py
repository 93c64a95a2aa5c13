"""The images of a detector's data: as detectron2 reads them where that is right, and right where it is not."""

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image

from fbnetv3 import InputError
from fbnetv3.detection.datasets import load_records
from fbnetv3.detection.images import ImageMapper, read_pixels
from tests.detection import coco_data
from tests.detection.coco_data import same


@pytest.mark.parametrize("training", [True, False])
def test_plain_images_are_mapped_as_detectron2_maps_them(shared_data, pair, training):
    cfg = coco_data.config(shared_data, pair)
    for record in load_records(coco_data.data_of(shared_data)):
        found, expected = [], []
        for mapper, out in ((ImageMapper, found), (DatasetMapper, expected)):
            np.random.seed(3)  # detectron2's augmentations draw from the global generator
            out.append(mapper(cfg, training)(record))
        for key in ("image_id", "height", "width", "image", "file_name"):
            assert same(found[0][key], expected[0][key])
        assert found[0].keys() == expected[0].keys()
        assert ("instances" in found[0]) == training
        if training:
            assert torch.equal(found[0]["instances"].gt_boxes.tensor, expected[0]["instances"].gt_boxes.tensor)


@pytest.mark.parametrize("format", ["RGB", "BGR", "L", "YUV-BT.601"])
def test_formats(shared_data, format):
    path = str(shared_data / "images" / "p0.png")
    found = read_pixels({"file_name": path, "width": 96, "height": 64}, format)
    assert np.array_equal(found, read_image(path, format))


def test_16_bit_grey_is_not_white_and_transparent_pixels_are(tmp_path):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey * 257).save(tmp_path / "grey.png")
    assert (read_image(str(tmp_path / "grey.png"), "RGB")[1:] == 255).all()  # what detectron2 makes of it
    found = read_pixels({"file_name": str(tmp_path / "grey.png")}, "RGB")
    assert np.array_equal(found, np.stack([grey] * 3, -1))
    Image.new("RGBA", (2, 2), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_pixels({"file_name": str(tmp_path / "clear.png")}, "RGB") == 255).all()


def test_an_image_is_turned_upright_unless_its_boxes_are_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    record = {"file_name": str(tmp_path / "turned.png")}
    upright = np.rot90(pixels, -1)[..., None]
    assert np.array_equal(read_pixels(record, "L"), upright)
    assert np.array_equal(read_pixels(record | {"width": 20, "height": 30}, "L"), upright)
    assert np.array_equal(read_pixels(record | {"width": 30, "height": 20}, "L"), pixels[..., None])
    with pytest.raises(SizeMismatchError):
        read_pixels(record | {"width": 30, "height": 30}, "L")
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    with pytest.raises(SizeMismatchError):  # no EXIF data says that it may be turned
        read_pixels({"file_name": str(tmp_path / "plain.png"), "width": 20, "height": 30}, "L")


def test_damaged_images_are_named(data):
    coco_data.truncate(data, 0)
    with pytest.raises(InputError, match=r"p0.png is no image that can be read"):
        read_pixels({"file_name": str(data / "images" / "p0.png")}, "RGB")


def test_masks_are_for_all_boxes_or_for_none(data, pair):
    content = coco_data.description()
    content["annotations"][1]["segmentation"] = [[0, 0, 40, 0, 40, 40, 0, 40]]
    coco_data.write_data(data, content)
    record = load_records(coco_data.data_of(data))[1]
    assert len(ImageMapper(coco_data.config(data, pair), True)(record)["instances"]) == 2
    with_masks = ImageMapper(coco_data.config(data, pair, MODEL__MASK_ON=True), True)(record)
    assert len(with_masks["instances"]) == 1
    assert with_masks["instances"].has("gt_masks")
