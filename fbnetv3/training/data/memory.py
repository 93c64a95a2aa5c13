"""Small image sets that are held in memory as uint8 tensors and augmented as tensors, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fbnetv3.errors import InputError, available
from fbnetv3.training.data.augment import draw
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.protocol import SPLITS, Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

EVAL_BATCH = 500
BLOCK = 512  # images that are augmented in one call: enough to hide the cost of a call, small enough for the cache


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, c, h, w] and labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """`Data` in memory. A search trains on `train` and ranks on `val`; only the pair that it chooses sees `test`.

    A set without test images has an empty `test`. `train_name` identifies the images that a training sees: not those of `val`
    and `test`. `search_name` identifies those that a search sees: not those of `test`. `bad` has the images that could not be
    read; they are in no split.
    """

    name: str
    classes: tuple[str, ...]
    mean: float  # of pixels in [0, 1], the same for every channel
    std: float
    train: Split
    val: Split
    test: Split
    train_name: str = field(default="", kw_only=True)
    search_name: str = field(default="", kw_only=True)
    bad: BadImages = field(default_factory=BadImages, kw_only=True)

    @property
    def in_chans(self) -> int:
        """Number of channels of an image."""
        return self.train.images.shape[1]

    @property
    def transforms(self) -> Transforms:
        """The preprocessing that turns any image into an input like those of this set."""
        side = self.train.images.shape[-1]
        return Transforms(side, side, (self.mean,) * self.in_chans, (self.std,) * self.in_chans)

    def split(self, name: str) -> Split:
        """Return `train`, `val` or `test`.

        Raises:
            InputError: there is no such split, or it has no images.
        """
        present = [split for split in SPLITS if len(getattr(self, split))]
        if name not in present:
            raise InputError(f"unknown split {name!r} of {self.name}; {available(name, present)}")
        split: Split = getattr(self, name)
        return split

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self.split(split))

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, as `Data.epoch` describes.

        The random changes are drawn for all images at once, and then applied to blocks of several batches.
        """
        change = draw(augmentation, len(self.train), self.train.images.shape[2:], rng)
        order = torch.from_numpy(rng.permutation(len(self.train)))
        # [steps, processes, images]: every process takes its part of every batch; the rest of the images is left out.
        size, steps = process.local_batch(batch_size), len(self.train) // batch_size
        mine = order[: steps * batch_size].view(steps, process.world_size, size)[start:, process.rank]

        # An inner generator: the draws above must happen when `epoch` is called, not when the first batch is asked for.
        def blocks() -> Iterator[Batch]:
            together = max(1, BLOCK // size)
            for first in range(0, len(mine), together):
                rows = mine[first : first + together].flatten()
                images = change(self.train.images[rows], rows)
                for part, labels in zip(images.split(size), self.train.labels[rows].split(size), strict=True):
                    yield normalise(part, self.mean, self.std), labels

        return blocks()

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, as `Data.batches` describes."""
        part = self.split(split)
        mine = torch.tensor(process.indices(len(part)), dtype=torch.long)
        for rows in mine.split(EVAL_BATCH):
            yield normalise(part.images[rows], self.mean, self.std), part.labels[rows]


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """Return uint8 images as a network's input: float32 with mean 0 and std 1, stored channels last."""
    # Rearranging bytes is cheaper than rearranging floats, so the layout changes first.
    return images.contiguous(memory_format=torch.channels_last).float().sub_(255 * mean).div_(255 * std)


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation (std) of all pixels of uint8 images, scaled to [0, 1].

    Both come from counts of the 256 values, which are whole numbers, so that they are the same on every machine.
    """
    counts = torch.zeros(256, dtype=torch.long)
    for part in images.split(EVAL_BATCH):
        counts += part.flatten().bincount(minlength=256)
    level = torch.arange(256)
    mean = int((counts * level).sum()) / images.numel() / 255
    return mean, (int((counts * level * level).sum()) / images.numel() / 255**2 - mean**2) ** 0.5
