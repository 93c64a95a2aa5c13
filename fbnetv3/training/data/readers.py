"""`Data` of images that are read, cropped and augmented while a training runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from fbnetv3.errors import InputError, available
from fbnetv3.training.data.augment import KINDS, augment, draw_boxes
from fbnetv3.training.data.image_files import ImageCollection
from fbnetv3.training.data.protocol import Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

EVAL_BATCH = 128
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by number of channels

Prepare = Callable[[Any, int], Tensor]  # turns a Pillow image and its index into uint8 [c, h, w]


@dataclass(frozen=True, eq=False)
class ReaderData:
    """`Data` of images that are read, cropped and augmented when they are needed.

    The random changes of an image depend only on the seed of the pass and on the image's index. The number of processes and
    the batch at which a pass starts therefore change nothing.

    Attributes:
        transforms: preprocessing of evaluation.
        resolution: side of the training crops in pixels.
        workers: number of processes that read images; 0 reads them in this process.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageCollection]
    transforms: Transforms
    resolution: int
    workers: int = 0

    def images(self, split: str) -> ImageCollection:
        """Return the images of a split.

        Raises:
            InputError: there is no such split.
        """
        if split not in self.splits:
            raise InputError(f"unknown split {split!r} of {self.name}; {available(split, self.splits)}")
        return self.splits[split]

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self.images(split).labels)

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, as `Data.epoch` describes. Batches before `start` are not read."""
        if augmentation not in KINDS:
            raise InputError(f"unknown augmentation {augmentation!r}; {available(augmentation, KINDS)}")
        images = self.images("train")
        # One number seeds the changes of all images of the pass; workers derive theirs from it and the image's index.
        seed, order = int(rng.integers(2**62)), rng.permutation(len(images.labels))
        size, steps = process.local_batch(batch_size), len(order) // batch_size
        mine = order[: steps * batch_size].reshape(steps, process.world_size, size)[start:, process.rank]
        # Kinds that change the crop of evaluation get it at the training resolution, cut out of the same share of the image.
        side = round(self.transforms.resize * self.resolution / self.transforms.crop)
        sizes = replace(self.transforms, resize=max(side, self.resolution), crop=self.resolution)
        return self._load(images, list(mine), functools.partial(train_image, augmentation, sizes, seed))

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, as `Data.batches` describes."""
        images = self.images(split)
        mine = np.array(process.indices(len(images.labels)), dtype=np.int64)
        rows = [mine[i : i + EVAL_BATCH] for i in range(0, len(mine), EVAL_BATCH)]
        return self._load(images, rows, functools.partial(eval_image, self.transforms))

    def _load(self, images: ImageCollection, rows: list[np.ndarray], prepare: Prepare) -> Iterator[Batch]:
        for pixels, labels in read_batches(images, rows, prepare, self.workers):
            # Normalised here and not in the workers: uint8 is a quarter of the bytes to send.
            yield self.transforms.normalise(pixels.contiguous(memory_format=torch.channels_last)), labels


def eval_image(transforms: Transforms, image: Any, _: int = 0) -> Tensor:
    """Return `Transforms.pixels`, uint8 [c, crop, crop], with the signature that `read_batches` needs."""
    return transforms.pixels(image)


def train_image(augmentation: str, transforms: Transforms, seed: int, image: Any, index: int) -> Tensor:
    """Return a training crop, uint8 [c, crop, crop], from a generator for this image alone.

    `resized_crop_flip` and `autoaugment` (the same, followed by AutoAugment's policy for ImageNet) crop the image itself. The
    other kinds change the crop that evaluation sees.
    """
    rng = np.random.default_rng([seed, index])
    # These two change what is cropped; the others change the crop.
    if augmentation not in ("resized_crop_flip", "autoaugment"):
        return augment(eval_image(transforms, image)[None], augmentation, rng)[0]
    image = image.convert(MODES[transforms.in_chans])
    box = draw_boxes(1, image.height, image.width, rng)[0].tolist()
    interpolation = InterpolationMode(transforms.interpolation)
    image = TF.resized_crop(image, *box, [transforms.crop] * 2, interpolation=interpolation)
    if rng.random() < 0.5:
        image = TF.hflip(image)
    if augmentation == "autoaugment":
        from fbnetv3.training.data.autoaugment import change_image

        image = change_image(image, "imagenet", rng)
    pixels: Tensor = TF.pil_to_tensor(image)
    return pixels


def read_batches(
    images: ImageCollection, rows: list[np.ndarray], prepare: Prepare, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of the images in `rows`: pixels uint8 [n, c, h, w] and labels int64 [n].

    Args:
        rows: for each batch, the indices of its images.
        workers: number of processes that read images; 0 reads them in this process.

    Raises:
        InputError: an image is damaged.
    """
    # A batch is the unit of work of a worker, so that batches come in order whatever the number of workers.
    batches = _Batches(images, rows, prepare)
    loaded: Any = map(batches.__getitem__, range(len(rows)))
    if workers and rows:
        # A separate generator: DataLoader would draw a seed from torch's global one, and dropout would change.
        generator = torch.Generator()
        loaded = DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=_unchanged, generator=generator)
    for batch in loaded:
        if isinstance(batch, InputError):
            raise batch
        yield batch


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[Any]):
    images: ImageCollection
    rows: list[np.ndarray]
    prepare: Prepare

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | InputError:
        """Return a batch, or the error of a damaged image.

        A worker process that raised the error would hide its message in a traceback.
        """
        rows = self.rows[step]
        try:
            pixels = torch.stack([self.prepare(self.images.read(row), row) for row in rows.tolist()])
        except InputError as error:
            return error
        return pixels, torch.from_numpy(self.images.labels[rows])


def _unchanged(batch: Any) -> Any:
    """Keep a batch as it is: DataLoader's default would turn an error into something else."""
    return batch
