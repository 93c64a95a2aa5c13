"""What a data set asks of a network: channels, classes and image size, found out without loading the set."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from fbnetv3.device import plain_defaults
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.load import arranged, channels_in_memory, sample_images
from fbnetv3.training.data.packaged import DATA, load_images
from fbnetv3.training.data.spec import check_spec
from fbnetv3.transforms import IMAGENET_MEAN


@dataclass(frozen=True)
class DataShape:
    """What a network for a data set, and its training, must fit.

    Attributes:
        side: median of the images' shorter sides in pixels, of a sample.
        images: number of training images.
    """

    in_chans: int
    num_classes: int
    side: int
    images: int


@plain_defaults()
def data_shape(spec: str) -> DataShape:
    """Return the shape of a data set. The same images have the same shape.

    Args:
        spec: as `load_data` takes it. Images outside of memory always have three channels, those in memory one if all are grey.

    Raises:
        InputError: there is no such data, or an image cannot be read.
    """
    if check_spec(spec) in DATA:
        data = load_images(spec)
        return DataShape(data.transforms.in_chans, len(data.classes), data.transforms.crop, data.count("train"))
    (source, _), bad = arranged(spec), BadImages("fail")
    in_chans = channels_in_memory(source, bad) if spec.startswith("memory:") else len(IMAGENET_MEAN)
    sides = [min(image.size) for image in sample_images(source, bad)]
    return DataShape(in_chans, len(source.classes), int(statistics.median(sides)), len(source.splits["train"].labels))
