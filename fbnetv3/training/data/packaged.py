"""The image set in the package: a small, balanced subset of Fashion-MNIST (MIT licence)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fbnetv3.device import plain_defaults
from fbnetv3.errors import InputError, available
from fbnetv3.training.data.memory import ImageData, Split, pixel_statistics
from fbnetv3.training.data.protocol import SPLITS


@cache
@plain_defaults()
def fashion_mnist() -> ImageData:
    """Return the set: 5,000 train, 4,000 val and 4,000 test images of 10 classes, 28 x 28 pixels, one channel.

    `images/make_fashion_mnist.py` made the file from the original.
    """
    classes = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    with np.load(Path(__file__).parent / "images" / "fashion_mnist.npz") as arrays:
        splits = {
            name: Split(
                torch.from_numpy(arrays[f"{name}_images"])[:, None],
                torch.from_numpy(arrays[f"{name}_labels"].astype(np.int64)),
            )
            for name in SPLITS
        }
    # Computed instead of typed, so that they always belong to the file.
    mean, std = pixel_statistics(splits["train"].images)
    return ImageData("fashion_mnist", classes, mean, std, *(splits[name] for name in SPLITS))


DATA: dict[str, Callable[[], ImageData]] = {"fashion_mnist": fashion_mnist}


def load_images(name: str) -> ImageData:
    """Return an image set of the package by its name.

    Raises:
        InputError: there is no such set. The message lists them.
    """
    if name not in DATA:
        raise InputError(f"unknown data set {name!r}; {available(name, DATA)}")
    return DATA[name]()
