"""What a training sees of its images (`Data`), and small sets held in memory as uint8 tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fbnetv3.errors import InputError
from fbnetv3.training.data.augment import draw
from fbnetv3.training.process_rank import Share
from fbnetv3.transforms import Transforms

EVAL_BATCH = 500
BLOCK = 512  # images that are augmented at once
SPLITS = ("train", "val", "test")
Batch = tuple[Tensor, Tensor]  # inputs float32 [n, c, h, w], labels int64 [n]


class Data(Protocol):
    """Images to train on and to measure on, whatever holds them: memory, folders, a data set on the network."""

    @property
    def name(self) -> str:
        """Identifies the images and their sizes: a training resumes only on data of the same name."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        ...

    @property
    def transforms(self) -> Transforms:
        """The preprocessing of `batches`."""
        ...

    def count(self, split: str) -> int:
        """Images of a split: `train`, and at least one of `val`, `test`.

        Raises:
            InputError: no such split.
        """
        ...

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, share: Share, start: int = 0
    ) -> Iterator[Batch]:
        """This process's part of every whole batch of one pass over `train`, shuffled and augmented, from batch `start`.

        Everything random is drawn from `rng` before this returns, equally much whatever `share` and `start` are, so that
        the pass does not depend on them. `batch_size` is that of all processes together, at most `count("train")`.
        """
        ...

    def batches(self, split: str, share: Share) -> Iterator[Batch]:
        """This process's images of a split in order, not augmented; over all processes every image exactly once."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, c, h, w] and labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification set: a search trains on `train` and ranks on `val`; only the chosen pair sees `test`.

    A set without test images has an empty `test`.
    """

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
        """`train`, `val` or `test`.

        Raises:
            InputError: no such split, or it has no images.
        """
        present = [split for split in SPLITS if len(getattr(self, split))]
        if name not in present:
            raise InputError(f"unknown split {name!r} of {self.name}; available: {', '.join(present)}")
        split: Split = getattr(self, name)
        return split

    def count(self, split: str) -> int:
        """Images of a split."""
        return len(self.split(split))

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, share: Share, start: int = 0
    ) -> Iterator[Batch]:
        """See `Data.epoch`; the changes are drawn for all images and made for blocks of some batches."""
        change = draw(augmentation, len(self.train), self.train.images.shape[2:], rng)
        order = torch.from_numpy(rng.permutation(len(self.train)))
        size, steps = share.local(batch_size), len(self.train) // batch_size
        mine = order[: steps * batch_size].view(steps, share.world, size)[start:, share.rank]

        def blocks() -> Iterator[Batch]:
            together = max(1, BLOCK // size)
            for first in range(0, len(mine), together):
                rows = mine[first : first + together].flatten()
                images = change(self.train.images[rows], rows)
                for part, labels in zip(images.split(size), self.train.labels[rows].split(size), strict=True):
                    yield normalise(part, self.mean, self.std), labels

        return blocks()

    def batches(self, split: str, share: Share) -> Iterator[Batch]:
        """See `Data.batches`."""
        part = self.split(split)
        mine = torch.tensor(share.of(len(part)), dtype=torch.long)
        for rows in mine.split(EVAL_BATCH):
            yield normalise(part.images[rows], self.mean, self.std), part.labels[rows]


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 images to the float input of a network, channels last."""
    return images.contiguous(memory_format=torch.channels_last).float().sub_(255 * mean).div_(255 * std)


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Mean and deviation of all pixels of uint8 images, as shares of 255; from whole numbers, so exact on any machine."""
    counts = torch.zeros(256, dtype=torch.long)
    for part in images.split(EVAL_BATCH):
        counts += part.flatten().bincount(minlength=256)
    level = torch.arange(256)
    mean = int((counts * level).sum()) / images.numel() / 255
    return mean, (int((counts * level * level).sum()) / images.numel() / 255**2 - mean**2) ** 0.5


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
    mean, std = pixel_statistics(splits["train"].images)
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
