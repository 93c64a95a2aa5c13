"""Small image sets that are held in memory as uint8 tensors and augmented as tensors, a block at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fbnetv3.device import placed, plain_defaults
from fbnetv3.errors import InputError, Note, available
from fbnetv3.training.data.augment import draw
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.device import send, send_ahead
from fbnetv3.training.data.protocol import SPLITS, Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

EVAL_BATCH = 500
BLOCK = 512  # images that are augmented in one call: enough to hide the cost of a call, small enough for the cache
BLOCK_PIXELS = 2**22  # of the images of such a call on a GPU, which has no such cache, and whose memory may be small
MEMORY_SHARE = 0.5  # largest share of a GPU's free memory that images may take; the network needs the rest


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, c, h, w] and labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """Return the images and labels on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """`Data` in memory. A search trains on `train` and ranks on `val`; only the pair that it chooses sees `test`.

    A set without test images has an empty `test`. `train_name` identifies the images that a training sees: not those of `val`
    and `test`. `search_name` identifies those that a search sees: not those of `test`. `bad` has the images that could not be
    read; they are in no split. `device` is where the batches arrive, by default where the images are held.
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
    device: torch.device | None = field(default=None, kw_only=True)

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

    def class_counts(self) -> list[int]:
        """Return the number of training images of every class."""
        counts: list[int] = self.train.labels.bincount(minlength=len(self.classes)).tolist()
        return counts

    def on_device(self, device: torch.device) -> ImageData:
        """Return the data with batches that arrive on a device.

        The images are held and augmented there. A GPU that lacks the memory gets batches that were augmented on the host.
        """
        device = placed(device)
        if device == self._arrival:
            return self
        splits = {name: getattr(self, name) for name in SPLITS}
        if device.type == "cuda":
            needed = sum(split.images.nbytes + split.labels.nbytes for split in splits.values())
            free = torch.cuda.mem_get_info(device)[0]
            # torch keeps memory that nobody uses, for later tensors.
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            if needed > MEMORY_SHARE * free:
                warnings.warn(
                    f"the images take {needed / 2**30:.1f} GiB, more than {MEMORY_SHARE:.0%} of the "
                    f"{free / 2**30:.1f} GiB that {device} has free; they stay in the memory of the host, which augments them",
                    Note,
                    stacklevel=2,
                )
                return replace(self, device=device)
        return replace(self, device=device, **{name: split.to(device) for name, split in splits.items()})

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, as `Data.epoch` describes.

        The random changes are drawn for all images at once, and then applied to blocks of several batches.
        """
        held = self.train.images.device
        change = draw(augmentation, len(self.train), self.train.images.shape[2:], rng, held)
        order = torch.from_numpy(rng.permutation(len(self.train)))
        # [steps, processes, images]: every process takes its part of every batch; the rest of the images is left out.
        size, steps = process.local_batch(batch_size), len(self.train) // batch_size
        mine = order[: steps * batch_size].view(steps, process.world_size, size)[start:, process.rank]

        # An inner generator: the draws above must happen when `epoch` is called, not when the first batch is asked for.
        def blocks() -> Iterator[Batch]:
            together = max(1, (BLOCK if held.type == "cpu" else self._block) // size)
            for first in range(0, len(mine), together):
                rows = mine[first : first + together].flatten()
                there = send(rows, held)
                with plain_defaults():
                    changed = change(self.train.images[there], rows)
                yield from zip(changed.split(size), self.train.labels[there].split(size), strict=True)

        return self._inputs(blocks())

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, as `Data.batches` describes."""
        part = self.split(split)
        rows = torch.tensor(process.indices(len(part)), dtype=torch.long, device=part.images.device)
        size = EVAL_BATCH if self._arrival.type == "cpu" else min(EVAL_BATCH, self._block)
        return self._inputs((part.images[some], part.labels[some]) for some in rows.split(size))

    @property
    def _arrival(self) -> torch.device:
        """The device on which the batches arrive."""
        return self.device or self.train.images.device

    @property
    def _block(self) -> int:
        """Number of images with `BLOCK_PIXELS` pixels in all."""
        return max(1, BLOCK_PIXELS // self.train.images[0, 0].numel())

    def _inputs(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches of uint8 images as inputs, where they shall arrive."""
        for images, labels in send_ahead(batches, self._arrival):
            yield normalise(images, self.mean, self.std), labels


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """Return uint8 images as a network's input: float32 with mean 0 and std 1, stored channels last."""
    # A tensor, because CUDA would multiply by the inverse of a number, and the last bit would differ from the CPU's.
    divisor = torch.full((), 255 * std, dtype=torch.float32, device=images.device)
    # Rearranging bytes is cheaper than rearranging floats, so the layout changes first.
    return images.contiguous(memory_format=torch.channels_last).float().sub_(255 * mean).div_(divisor)


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
