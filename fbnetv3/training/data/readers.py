"""`Data` of images that are read, cropped and augmented while a training runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from fbnetv3.device import placed, plain_defaults
from fbnetv3.errors import InputError, available
from fbnetv3.training.data.augment import KINDS, augment, draw_boxes
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.device import CPU, send_ahead
from fbnetv3.training.data.image_files import ImageCollection
from fbnetv3.training.data.protocol import Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.stop_signal import ignore_signals
from fbnetv3.transforms import Transforms, eight_bit

EVAL_BATCH = 128
TRIES = 100  # images after one that cannot be read, of which the first that can be read is its substitute
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
        train_name: identifies the images that a training sees: not those of `val` and `test`.
        search_name: identifies the images that a search sees: not those of `test`.
        bad: images that cannot be read. If they are left out, `epoch` takes the next image of the set for each, so that all
            batches keep their size, and `batches` leaves them out.
        device: where the batches arrive.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageCollection]
    transforms: Transforms
    resolution: int
    workers: int = 0
    train_name: str = field(default="", kw_only=True)
    search_name: str = field(default="", kw_only=True)
    bad: BadImages = field(default_factory=BadImages, kw_only=True)
    device: torch.device = field(default=CPU, kw_only=True)

    def on_device(self, device: torch.device) -> ReaderData:
        """Return the data with batches that are sent to a device as bytes, and normalised there."""
        return self if placed(device) == self.device else replace(self, device=placed(device))

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

    def class_counts(self) -> list[int]:
        """Return the number of training images of every class."""
        counts: list[int] = np.bincount(self.images("train").labels, minlength=len(self.classes)).tolist()
        return counts

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
        return self._load(
            "train", list(mine), functools.partial(train_image, augmentation, sizes, seed), substitute=True
        )

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, as `Data.batches` describes."""
        images = self.images(split)
        mine = np.array(process.indices(len(images.labels)), dtype=np.int64)
        rows = [mine[i : i + EVAL_BATCH] for i in range(0, len(mine), EVAL_BATCH)]
        return self._load(split, rows, functools.partial(eval_image, self.transforms), substitute=False)

    def _load(self, split: str, rows: list[np.ndarray], prepare: Prepare, substitute: bool) -> Iterator[Batch]:
        images = self.images(split)
        read = read_batches(images, rows, prepare, self.workers, self.bad, split=split, substitute=substitute)
        labelled = ((pixels, torch.from_numpy(images.labels[found])) for pixels, found in read)
        # Normalised here and not in the workers: uint8 is a quarter of the bytes to send, also to the device.
        normalise = self.transforms.normaliser(self.device)
        for pixels, labels in send_ahead(labelled, self.device):
            yield normalise(pixels.contiguous(memory_format=torch.channels_last)), labels


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


def train_transform(recipe: Recipe, transforms: Transforms) -> Callable[[Any], Tensor]:
    """Return what turns a Pillow image into a training input, float32 [c, crop, crop]: the recipe's augmentation, normalised.

    It is a transform of torchvision's datasets, and of any other. It draws from torch's global generator, as torchvision's
    do, so that every worker of a `DataLoader` draws other numbers.

    Args:
        transforms: the preprocessing of evaluation, which is a transform itself. `transforms.at(side)` is for another size.
    """
    return functools.partial(_train_input, recipe.augmentation, transforms)


def _train_input(augmentation: str, transforms: Transforms, image: Any) -> Tensor:
    seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
    return transforms.normalise(train_image(augmentation, transforms, seed, eight_bit(image), 0))


def read_batches(
    images: ImageCollection,
    rows: list[np.ndarray],
    prepare: Prepare,
    workers: int,
    bad: BadImages | None = None,
    *,
    split: str = "",
    substitute: bool = False,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield batches of the images in `rows`: pixels uint8 [n, c, h, w] and the indices of the images, int64 [n].

    Args:
        rows: for each batch, the indices of its images.
        workers: number of processes that read images; 0 reads them in this process.
        bad: what is done about images that cannot be read; by default they end the run.
        split: name of the images, under which those that cannot be read are counted.
        substitute: take the next image of the set for one that is left out. Otherwise its batch is smaller, and a batch
            without images is left out too.

    Raises:
        InputError: an image cannot be read, and such images end the run or there is no substitute.
    """
    bad = bad or BadImages()
    # A batch is the unit of work of a worker, so that batches come in order whatever the number of workers.
    batches = _Batches(images, rows, prepare, 1 if not substitute or not bad.skip else min(TRIES, len(images.labels)))
    loaded: Any = map(batches.__getitem__, range(len(rows)))
    if workers and rows:
        # Workers may be forked after CUDA was initialised here, because nothing in them touches CUDA: their images and tensors
        # are the host's, and this process pins and sends the batches. Every pass starts its workers, since they keep the rows
        # of the pass; where that takes long compared with the pass, the images are few, and faster in memory.
        # A separate generator: DataLoader would draw a seed from torch's global one, and dropout would change.
        generator = torch.Generator("cpu")
        with plain_defaults():  # inside, the loader draws a seed
            loaded = iter(
                DataLoader(
                    batches,
                    batch_size=None,
                    num_workers=workers,
                    collate_fn=_unchanged,
                    generator=generator,
                    worker_init_fn=ignore_signals,
                )
            )
    for wanted, batch in zip(rows, loaded, strict=True):
        if isinstance(batch, InputError):
            raise batch
        pixels, found, unread = batch
        bad.add(split, unread)
        if substitute and len(found) < len(wanted):
            raise InputError(f"{unread[-1][1]}. {batches.tries} images in a row cannot be read")
        if pixels is not None:
            yield pixels, found


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[Any]):
    images: ImageCollection
    rows: list[np.ndarray]
    prepare: Prepare
    tries: int  # how many images may be read for one

    def __len__(self) -> int:
        return len(self.rows)

    @plain_defaults()
    def __getitem__(self, step: int) -> tuple[Tensor | None, np.ndarray, list[tuple[int, str]]] | InputError:
        """Return a batch: pixels, indices, and the images that cannot be read with the reasons. Or return an error.

        A worker process that raised an error would hide its message in a traceback.
        """
        pixels: list[Tensor] = []
        found: list[int] = []
        unread: list[tuple[int, str]] = []
        for row in self.rows[step].tolist():
            for index in ((row + i) % len(self.images.labels) for i in range(self.tries)):
                try:
                    image = self.images.read(index)
                except InputError as error:
                    unread.append((index, str(error)))
                    continue
                try:
                    # By the index of the image that is missing: the substitute would otherwise come twice in one form.
                    pixels.append(self.prepare(image, row))
                except InputError as error:
                    return error
                found.append(index)
                break
        return torch.stack(pixels) if pixels else None, np.array(found, dtype=np.int64), unread


def _unchanged(batch: Any) -> Any:
    """Keep a batch as it is: DataLoader's default would turn an error into something else."""
    return batch
