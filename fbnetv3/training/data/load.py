"""Any data set by a text that names it: the package's own, pictures that are read as needed, or small ones in memory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbnetv3.errors import InputError
from fbnetv3.training.data.image_files import ImageCollection, ImageSource
from fbnetv3.training.data.memory import ImageData, Split, pixel_statistics
from fbnetv3.training.data.packaged import DATA, load_images
from fbnetv3.training.data.protocol import SPLITS, Data
from fbnetv3.training.data.readers import EVAL_BATCH, MODES, ReaderData, eval_image, read_batches
from fbnetv3.training.data.sources import TORCHVISION, open_image_source
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD, Transforms

RESOLUTION = 224
CROP_RATIO = 0.875  # of the shorter side, what evaluation sees unless told otherwise
HELD_OUT = 0.1  # of every class of train, where there is no val
MEMORY = 4 * 2**30  # bytes that a set in memory may take
LOOKED_AT = 32  # pictures, to tell whether a set is grey
SEED = 0  # of what is held out and of subsets
FORMS = (
    f"the package's {', '.join(DATA)}; a folder with train/CLASS/PICTURE; torchvision:NAME:FOLDER with NAME of "
    f"{', '.join(TORCHVISION)}; hfds/NAME; wds/FOLDER; list:LISTS:FOLDER; memory: before any of these but the first"
)


def load_data(
    spec: str,
    *,
    resolution: int | None = None,
    transforms: Transforms | None = None,
    limit: int | None = None,
    workers: int = 0,
    download: bool = False,
) -> Data:
    """Images to train on and to measure on.

    Without a val split a tenth of every class of train is held out as val, the same one always; the name says so.

    Args:
        spec: a set of the package (`fashion_mnist`); a folder with train/CLASS/PICTURE, and val/ or validation/, test/;
            `torchvision:NAME:FOLDER`; `hfds/NAME`, a Hugging Face set by name or path (`hfds/NAME#COLUMN` where there are
            several labels); `wds/FOLDER`, WebDataset's tar files; `list:LISTS:FOLDER`, the pictures below FOLDER that
            LISTS/train.txt, val.txt and test.txt name, each by the folder of its class; or `memory:` and one of the last
            five: all images are decoded at once and augmented as tensors, many times as fast for small images.
        resolution: side of training crops in pixels. In memory: of all images, which otherwise must be squares of one size.
        transforms: preprocessing of evaluation, for pictures that are not in memory; unless given, `resolution` cut out of
            a shorter side of `resolution` / `CROP_RATIO`, ImageNet's mean and deviation.
        limit: images of every class, at most, in every split: always the same ones.
        workers: processes that read pictures, beside this one.
        download: let torchvision fetch what is missing of `torchvision:NAME:FOLDER`.

    Raises:
        InputError: nothing by that name, another layout, a damaged picture, or a setting that does not go with it.
    """
    for name, value, least in (("resolution", resolution, 1), ("limit", limit, 1), ("workers", workers, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}")
    if download and not spec.removeprefix("memory:").startswith("torchvision:"):
        raise InputError(f"data {spec!r} is not downloaded; only torchvision:NAME:FOLDER is")
    if spec in DATA:
        return _own(load_images(spec), resolution, transforms, limit)
    source, about = _arrange(_open(spec.removeprefix("memory:"), download), limit)
    if not spec.startswith("memory:"):
        return _reader(source, about, resolution or RESOLUTION, transforms, workers)
    if transforms is not None:
        raise InputError(f"data {spec!r} takes no transforms: images in memory are not cut again; give a resolution")
    return _in_memory(source, about, resolution, workers)


def image_side(spec: str, side: int) -> int | None:
    """The resolution to load a set at for a network of that side: None for a set of the package, whose images have one."""
    return None if spec in DATA else side


def choose(labels: np.ndarray, number: Callable[[int], int], seed: int) -> np.ndarray:
    """Mark, as bool [n], `number(k)` random ones of the k images of every class; a class's own do not depend on others."""
    marked = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        marked[np.random.default_rng([seed, label]).permutation(rows)[: number(len(rows))]] = True
    return marked


@dataclass(frozen=True, eq=False)
class ImageSubset:
    """Some pictures of others."""

    whole: ImageCollection
    rows: np.ndarray

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """See `ImageCollection.labels`."""
        labels: np.ndarray = self.whole.labels[self.rows]
        return labels

    def name(self, index: int) -> str:
        """See `ImageCollection.name`."""
        return self.whole.name(int(self.rows[index]))

    def read(self, index: int) -> Any:
        """See `ImageCollection.read`."""
        return self.whole.read(int(self.rows[index]))


def _open(spec: str, download: bool) -> ImageSource:
    known = ("torchvision:", "list:", "hfds/", "wds/", "hfids/", "tfds/")
    if not spec.startswith(known) and not Path(spec).expanduser().is_dir():
        raise InputError(f"unknown data set {spec!r}; available: {FORMS}")
    return open_image_source(spec, download=download)


def _own(data: ImageData, resolution: int | None, transforms: Transforms | None, limit: int | None) -> ImageData:
    """A set of the package, or the subset of it."""
    side = data.transforms.crop
    if resolution not in (None, side) or transforms is not None:
        raise InputError(f"{data.name} has images of {side} x {side} pixels; leave out resolution and transforms")
    if limit is None:
        return data

    def subset(split: Split) -> Split:
        rows = torch.from_numpy(choose(split.labels.numpy(), lambda count: limit, SEED))
        return Split(split.images[rows], split.labels[rows])

    name = f"{data.name} ({limit} a class)"
    return replace(data, name=name, train=subset(data.train), val=subset(data.val), test=subset(data.test))


def _arrange(source: ImageSource, limit: int | None) -> tuple[ImageSource, list[str]]:
    """Hold out val where there is none, take the subset, and say so in words."""
    splits, about = dict(source.splits), []
    if "val" not in splits:
        labels = splits["train"].labels
        held = choose(labels, lambda count: min(count - 1, max(1, round(HELD_OUT * count))), SEED)
        if not held.any():
            raise InputError(f"{source.name} has one image a class and no val; nothing can be held out: add pictures")
        train = splits["train"]
        splits |= {"train": ImageSubset(train, np.flatnonzero(~held)), "val": ImageSubset(train, np.flatnonzero(held))}
        about.append(f"val: {HELD_OUT:.0%} of train, seed {SEED}")
    if limit is not None:
        for name, pictures in splits.items():
            rows = np.flatnonzero(choose(pictures.labels, lambda count: limit, SEED))
            splits[name] = ImageSubset(pictures, rows)
        about.append(f"{limit} a class")
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return ImageSource(source.name, source.classes, ordered), [*about, f"id {_fingerprint(ordered)}"]


def _fingerprint(splits: dict[str, ImageCollection]) -> str:
    """Of the pictures' places and labels."""
    digest = hashlib.sha256()
    for name, pictures in splits.items():
        digest.update(name.encode() + pictures.labels.tobytes())
        for index in range(len(pictures.labels)):
            digest.update(pictures.name(index).encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:8]


def _reader(
    source: ImageSource, about: list[str], resolution: int, transforms: Transforms | None, workers: int
) -> ReaderData:
    if transforms is None:
        transforms = Transforms(round(resolution / CROP_RATIO), resolution, IMAGENET_MEAN, IMAGENET_STD)
    if transforms.in_chans not in MODES:
        raise InputError(f"transforms: {transforms.in_chans} channels; allowed for pictures: 1 (grey) or 3 (RGB)")
    sizes = f"{resolution} px, evaluated at {transforms.crop} of {transforms.resize}"
    name = f"{source.name} ({', '.join([sizes, *about])})"
    return ReaderData(name, source.classes, source.splits, transforms, resolution, workers)


def _in_memory(source: ImageSource, about: list[str], resolution: int | None, workers: int) -> ImageData:
    side = resolution or source.splits["train"].read(0).height
    channels = 1 if _is_grey(source.splits["train"]) else 3
    count = sum(len(pictures.labels) for pictures in source.splits.values())
    if (needed := count * channels * side * side) > MEMORY:
        raise InputError(
            f"{count} images of {side} x {side} pixels take {needed / 2**30:.1f} GiB of memory; allowed: "
            f"{MEMORY / 2**30:.0f}; leave out memory:, or give a lower resolution or a limit"
        )
    scale = Transforms(side, side, (0.0,) * channels, (1.0,) * channels)

    def decode(split: str) -> Split:
        if split not in source.splits:
            return Split(torch.empty(0, channels, side, side, dtype=torch.uint8), torch.empty(0, dtype=torch.long))
        pictures = source.splits[split]
        cut = functools.partial(eval_image, scale) if resolution else functools.partial(_unscaled, scale, pictures)
        return _decode(pictures, cut, workers)

    train = decode("train")
    name = f"memory:{source.name} ({', '.join([f'{side} px', *about])})"
    mean, std = pixel_statistics(train.images)
    return ImageData(name, source.classes, mean, std, train, decode("val"), decode("test"))


def _is_grey(pictures: ImageCollection) -> bool:
    """Whether no picture of some, spread over all, has colours."""
    rows = np.linspace(0, len(pictures.labels) - 1, LOOKED_AT).astype(int)
    return all(pictures.read(row).mode in ("1", "L") for row in set(rows.tolist()))


def _unscaled(scale: Transforms, pictures: ImageCollection, picture: Any, index: int) -> Tensor:
    if picture.size != (scale.crop, scale.crop):
        raise InputError(
            f"{pictures.name(index)} has {picture.width} x {picture.height} pixels; images in memory are squares of one size, "
            f"here {scale.crop} as the first picture is high: give a resolution"
        )
    return eval_image(scale, picture)


def _decode(pictures: ImageCollection, prepare: Callable[[Any, int], Tensor], workers: int) -> Split:
    rows = np.arange(len(pictures.labels))
    steps = [rows[i : i + EVAL_BATCH] for i in range(0, len(rows), EVAL_BATCH)]
    images = torch.cat([images for images, _ in read_batches(pictures, steps, prepare, workers)])
    return Split(images, torch.from_numpy(pictures.labels))
