"""`Data` of pictures that are read, cut and augmented while a training runs."""

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

from fbnetv3.errors import InputError
from fbnetv3.training.data.augment import KINDS, augment, draw_boxes
from fbnetv3.training.data.image_files import ImageCollection
from fbnetv3.training.data.protocol import Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

EVAL_BATCH = 128
MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels

Prepare = Callable[[Any, int], Tensor]  # (Pillow image, its number) to uint8 [c, h, w]


@dataclass(frozen=True, eq=False)
class ReaderData:
    """`Data` of pictures that are read, cut and augmented as they are needed, by `workers` processes beside this one.

    Every picture's changes are seeded by the pass and the picture's number alone: how many processes there are and where
    a pass starts changes nothing. Training crops are `resolution` pixels wide and high; evaluation follows `transforms`.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageCollection]
    transforms: Transforms
    resolution: int
    workers: int = 0

    def pictures(self, split: str) -> ImageCollection:
        """The pictures of a split.

        Raises:
            InputError: no such split.
        """
        if split not in self.splits:
            raise InputError(f"unknown split {split!r} of {self.name}; available: {', '.join(self.splits)}")
        return self.splits[split]

    def count(self, split: str) -> int:
        """Images of a split."""
        return len(self.pictures(split).labels)

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """See `Data.epoch`; batches before `start` are not read."""
        if augmentation not in KINDS:
            raise InputError(f"unknown augmentation {augmentation!r}; available: {', '.join(KINDS)}")
        pictures = self.pictures("train")
        seed, order = int(rng.integers(2**62)), rng.permutation(len(pictures.labels))
        size, steps = process.local_batch(batch_size), len(order) // batch_size
        mine = order[: steps * batch_size].reshape(steps, process.world_size, size)[start:, process.rank]
        side = round(self.transforms.resize * self.resolution / self.transforms.crop)
        sizes = replace(self.transforms, resize=max(side, self.resolution), crop=self.resolution)
        return self._load(pictures, list(mine), functools.partial(train_image, augmentation, sizes, seed))

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """See `Data.batches`."""
        pictures = self.pictures(split)
        mine = np.array(process.indices(len(pictures.labels)), dtype=np.int64)
        rows = [mine[i : i + EVAL_BATCH] for i in range(0, len(mine), EVAL_BATCH)]
        return self._load(pictures, rows, functools.partial(eval_image, self.transforms))

    def _load(self, pictures: ImageCollection, rows: list[np.ndarray], prepare: Prepare) -> Iterator[Batch]:
        for images, labels in read_batches(pictures, rows, prepare, self.workers):
            last = images.contiguous(memory_format=torch.channels_last)
            yield self.transforms.normalise(last), labels


def eval_image(transforms: Transforms, picture: Any, _: int = 0) -> Tensor:
    """`Transforms.pixels`, for `read_batches`: uint8 [c, crop, crop]."""
    return transforms.pixels(picture)


def train_image(augmentation: str, transforms: Transforms, seed: int, picture: Any, index: int) -> Tensor:
    """A training crop, uint8 [c, crop, crop], from a generator of its own.

    `resized_crop_flip` and `autoaugment` (that, then AutoAugment's policy for ImageNet) crop the picture itself; the other
    kinds change what evaluation sees.
    """
    rng = np.random.default_rng([seed, index])
    if augmentation not in ("resized_crop_flip", "autoaugment"):
        return augment(eval_image(transforms, picture)[None], augmentation, rng)[0]
    picture = picture.convert(MODES[transforms.in_chans])
    box = draw_boxes(1, picture.height, picture.width, rng)[0].tolist()
    interpolation = InterpolationMode(transforms.interpolation)
    picture = TF.resized_crop(picture, *box, [transforms.crop] * 2, interpolation=interpolation)
    if rng.random() < 0.5:
        picture = TF.hflip(picture)
    if augmentation == "autoaugment":
        from fbnetv3.training.data.autoaugment import change_image

        picture = change_image(picture, "imagenet", rng)
    pixels: Tensor = TF.pil_to_tensor(picture)
    return pixels


def read_batches(
    pictures: ImageCollection, rows: list[np.ndarray], prepare: Prepare, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches uint8 [n, c, h, w] and labels int64 [n] of the pictures in `rows`; torch's global generator is left alone.

    Raises:
        InputError: a picture is damaged.
    """
    batches = _Batches(pictures, rows, prepare)
    made: Any = map(batches.__getitem__, range(len(rows)))
    if workers and rows:
        made = DataLoader(
            batches, batch_size=None, num_workers=workers, collate_fn=_as_it_is, generator=torch.Generator()
        )
    for batch in made:
        if isinstance(batch, InputError):
            raise batch
        yield batch


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[Any]):
    pictures: ImageCollection
    rows: list[np.ndarray]
    prepare: Prepare

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | InputError:
        """A batch; an error is handed over, since a worker that raises it wraps it in its traceback."""
        rows = self.rows[step]
        try:
            images = torch.stack([self.prepare(self.pictures.read(row), row) for row in rows.tolist()])
        except InputError as error:
            return error
        return images, torch.from_numpy(self.pictures.labels[rows])


def _as_it_is(batch: Any) -> Any:
    return batch
