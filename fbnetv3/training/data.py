"""Small image sets held in memory as uint8 tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fbnetv3.errors import InputError
from fbnetv3.transforms import Transforms


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, c, h, w] and labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification set: a search trains on `train` and ranks on `val`; only the chosen pair sees `test`."""

    name: str
    classes: tuple[str, ...]
    mean: float  # of pixels in [0, 1], every channel
    std: float
    train: Split
    val: Split
    test: Split

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return self.train.images.shape[1]

    @property
    def transforms(self) -> Transforms:
        """What makes a picture an image of this set."""
        side = self.train.images.shape[-1]
        return Transforms(side, side, (self.mean,) * self.in_chans, (self.std,) * self.in_chans)

    def split(self, name: str) -> Split:
        """`train`, `val` or `test`."""
        if name not in ("train", "val", "test"):
            raise InputError(f"unknown split {name!r} of {self.name}; available: train, val, test")
        split: Split = getattr(self, name)
        return split


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 images to the float input of a network, channels last."""
    return images.float().sub_(255 * mean).div_(255 * std).contiguous(memory_format=torch.channels_last)


@cache
def fashion_mnist() -> ImageData:
    """The package's own images: 5,000 / 1,000 / 2,000 balanced ones of Fashion-MNIST (MIT), 28 x 28, one channel."""
    classes = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    with np.load(Path(__file__).parent / "images" / "fashion_mnist.npz") as arrays:
        splits = {
            name: Split(
                torch.from_numpy(arrays[f"{name}_images"])[:, None],
                torch.from_numpy(arrays[f"{name}_labels"].astype(np.int64)),
            )
            for name in ("train", "val", "test")
        }
    # Whole-number sums are exact, so that mean and deviation do not depend on the number of threads.
    pixels = splits["train"].images.long()
    mean = int(pixels.sum()) / pixels.numel() / 255
    std = (int((pixels * pixels).sum()) / pixels.numel() / 255**2 - mean**2) ** 0.5
    return ImageData("fashion_mnist", classes, mean, std, **splits)


DATA: dict[str, Callable[[], ImageData]] = {"fashion_mnist": fashion_mnist}


def load_images(name: str) -> ImageData:
    """An image set by name.

    Raises:
        InputError: no such set; the message lists them.
    """
    if name not in DATA:
        raise InputError(f"unknown data set {name!r}; available: {', '.join(DATA)}")
    return DATA[name]()
