"""The images of a detector's data, read as everywhere in this package."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import check_image_size, convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image

from fbnetv3.transforms import decode_image

Record = dict[str, Any]  # as in `datasets`


class ImageMapper(DatasetMapper):  # type: ignore[misc]  # detectron2 has no types
    """detectron2's mapper from a record to the input of a model, with this package's reader of images.

    detectron2's own reader makes 16-bit grey white, and shows the colours under transparent pixels.
    """

    def __call__(self, record: Record) -> Record:
        """Return the record with `image`, and for a training with `instances`.

        Raises:
            InputError: the image cannot be read.
            SizeMismatchError: the image has another size than its record.
        """
        record = copy.deepcopy(record)
        pixels = T.AugInput(read_pixels(record, self.image_format))
        changes = self.augmentations(pixels)
        record["image"] = torch.as_tensor(np.ascontiguousarray(pixels.image.transpose(2, 0, 1)))
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            if self.use_instance_mask:  # detectron2 needs a mask for all boxes, or for none
                record["annotations"] = [row for row in record["annotations"] if "segmentation" in row]
            self._transform_annotations(record, changes, pixels.image.shape[:2])
        return record


def read_pixels(record: Record, format: str) -> np.ndarray:
    """Return the image of a record as an array [height, width, channels].

    The image is turned upright as its EXIF data says, unless only the unturned image has the size in the record: then the boxes
    were drawn on that.

    Args:
        format: detectron2's name of the channels, such as BGR.

    Raises:
        InputError: the image cannot be read.
        SizeMismatchError: the image has another size than its record.
    """
    name = record["file_name"]
    size = (record.get("width"), record.get("height"))
    with PathManager.open(name, "rb") as file:
        image = decode_image(lambda: Image.open(file), name)
        if image.size != size and image.size[::-1] == size:
            file.seek(0)
            stored = decode_image(lambda: Image.open(file), name, upright=False)
            image = stored if stored.size == size else image
    pixels: np.ndarray = convert_PIL_to_numpy(image, format)
    check_image_size(record, pixels)
    return pixels
