"""Any data set by a text that names it: sets of the package, images that are read when needed, or small sets in memory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from fbnetv3.device import plain_defaults
from fbnetv3.errors import InputError
from fbnetv3.training.data.bad_images import BadImages, OnBadImage
from fbnetv3.training.data.image_files import ImageCollection, ImageSource
from fbnetv3.training.data.memory import ImageData, Split, pixel_statistics
from fbnetv3.training.data.packaged import DATA, load_images
from fbnetv3.training.data.protocol import SPLITS, Data
from fbnetv3.training.data.readers import EVAL_BATCH, MODES, ReaderData, eval_image, read_batches
from fbnetv3.training.data.sources import TORCHVISION, open_image_source
from fbnetv3.training.data.spec import check_spec, home_path
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD, Transforms

RESOLUTION = 224
CROP_RATIO = 0.875  # share of the shorter side that evaluation sees unless `transforms` are given
HELD_OUT = 0.1  # share of every class of train that becomes val if there is no val
MEMORY = 4 * 2**30  # largest size of a set in memory, in bytes
LOOKED_AT = 32  # number of images that are read to find out what a set is like
SEED = 0  # of the images that are held out, and of subsets
FORMS = (
    f"the package's {', '.join(DATA)}; a folder with train/CLASS/IMAGE, or CLASS/IMAGE; torchvision:NAME:FOLDER with NAME of "
    f"{', '.join(TORCHVISION)}; hfds/NAME; wds/FOLDER; list:LISTS:FOLDER; memory: and any of these except the first"
)


@plain_defaults()
def load_data(
    spec: str,
    *,
    resolution: int | None = None,
    transforms: Transforms | None = None,
    limit: int | None = None,
    workers: int = 0,
    download: bool = False,
    on_bad_image: OnBadImage = "fail",
    hold_out: bool = True,
) -> Data:
    """Return images to train on and to measure on.

    If there is no val split, a tenth of every class of train is held out as val: always the same images. The name of the data
    says so.

    Args:
        spec: one of
            `fashion_mnist`, the set of the package;
            a folder with train/CLASS/IMAGE, and likewise val/ or validation/, and test/; or with CLASS/IMAGE alone;
            `torchvision:NAME:FOLDER`;
            `hfds/NAME`, a Hugging Face set by name or path (`hfds/NAME#COLUMN` if it has several labels);
            `wds/FOLDER`, WebDataset's tar files;
            `list:LISTS:FOLDER`, the images below FOLDER that LISTS/train.txt, val.txt and test.txt name;
            `memory:` and any of these except the first: all images are decoded once and augmented as tensors, which is many
            times as fast for small images.
        resolution: side of the training crops in pixels. In memory it is the side of all images; without it they must be
            squares of one size.
        transforms: preprocessing of evaluation, for images that are not in memory. The default is a crop of `resolution`
            pixels out of an image with a shorter side of `resolution` / `CROP_RATIO`, with ImageNet's mean and std.
        limit: largest number of images of a class in every split: always the same images.
        workers: number of processes that read images; 0 reads them in this process.
        download: let torchvision download the missing files of `torchvision:NAME:FOLDER`.
        on_bad_image: what is done about an image that cannot be read. `fail` raises an error that names it, when it is read.
            `skip` leaves it out, with a warning: a training takes the next image of the set in its place.
        hold_out: make a val split if there is none. Otherwise `train` has all images, which can only be measured on.

    Raises:
        InputError: there is no such data, its layout is another one, an image in memory cannot be read, or a setting does not
            fit the data.
    """
    for name, value, least in (("resolution", resolution, 1), ("limit", limit, 1), ("workers", workers, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}")
    check_spec(spec)
    if download and not spec.removeprefix("memory:").startswith("torchvision:"):
        raise InputError(f"data {spec!r} cannot be downloaded; only torchvision:NAME:FOLDER can")
    bad = BadImages(on_bad_image)
    if spec in DATA:
        return _packaged(load_images(spec), resolution, transforms, limit)
    source, about = arranged(spec, limit, download, hold_out)
    if not spec.startswith("memory:"):
        return _reader(source, about, resolution or RESOLUTION, transforms, workers, bad)
    if transforms is not None:
        raise InputError(
            f"data {spec!r} takes no transforms, because images in memory are not cropped again; give a resolution"
        )
    return _in_memory(source, about, resolution, workers, bad)


def arranged(
    spec: str, limit: int | None = None, download: bool = False, hold_out: bool = True
) -> tuple[ImageSource, list[str]]:
    """Return the images that `load_data` loads, none of them read yet, and in words what differs from the source."""
    return _arrange(_open(spec.removeprefix("memory:"), download), limit, hold_out)


def image_side(spec: str, side: int) -> int | None:
    """Return the resolution to load a set with, for a network whose input side is `side`.

    It is None for a set of the package, whose images have their size.
    """
    return None if spec in DATA else side


def choose(labels: np.ndarray, number: Callable[[int], int], seed: int) -> np.ndarray:
    """Choose images of every class at random.

    Args:
        labels: class of every image, int64 [n].
        number: how many to choose of a class with k images.

    Returns:
        The chosen images, bool [n]. Which images of a class are chosen does not depend on the other classes.
    """
    marked = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        # A generator for each class, so that a new class changes nothing for the others.
        marked[np.random.default_rng([seed, label]).permutation(rows)[: number(len(rows))]] = True
    return marked


@dataclass(frozen=True, eq=False)
class ImageSubset:
    """Some images of a collection: those with the indices `rows`."""

    collection: ImageCollection
    rows: np.ndarray

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The class of every image, int64 [n]."""
        labels: np.ndarray = self.collection.labels[self.rows]
        return labels

    def name(self, index: int) -> str:
        """Return the image's name in the collection."""
        return self.collection.name(int(self.rows[index]))

    def read(self, index: int) -> Any:
        """Return an image, as `ImageCollection.read` describes."""
        return self.collection.read(int(self.rows[index]))


def _open(spec: str, download: bool) -> ImageSource:
    # A name that is no folder is a mistyped set, so the message explains all forms instead of "no such folder".
    known = ("torchvision:", "list:", "hfds/", "wds/", "hfids/", "tfds/")
    if not spec.startswith(known) and not home_path(spec).is_dir():
        raise InputError(f"unknown data set {spec!r}; available: {FORMS}")
    return open_image_source(spec, download=download)


def _packaged(data: ImageData, resolution: int | None, transforms: Transforms | None, limit: int | None) -> ImageData:
    """Return a set of the package, or a subset of it."""
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


def _arrange(source: ImageSource, limit: int | None, hold_out: bool) -> tuple[ImageSource, list[str]]:
    """Hold out val if it is missing and wanted, and take the subset. Return the result, and in words what was done."""
    splits, about = dict(source.splits), []
    if hold_out and "val" not in splits:
        labels = splits["train"].labels
        # At least one image of a class, but never all of them.
        held = choose(labels, lambda count: min(count - 1, max(1, round(HELD_OUT * count))), SEED)
        if not held.any():
            raise InputError(f"{source.name} has one image a class and no val; nothing can be held out: add images")
        train = splits["train"]
        splits |= {"train": ImageSubset(train, np.flatnonzero(~held)), "val": ImageSubset(train, np.flatnonzero(held))}
        about.append(f"val: {HELD_OUT:.0%} of train, seed {SEED}")
    if limit is not None:
        for name, images in splits.items():
            rows = np.flatnonzero(choose(images.labels, lambda count: limit, SEED))
            splits[name] = ImageSubset(images, rows)
        about.append(f"{limit} a class")
    # In a fixed order, on which the hash depends.
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return ImageSource(source.name, source.classes, ordered), about


class _Names(TypedDict):
    name: str
    train_name: str
    search_name: str


def _names(prefix: str, source: ImageSource, about: list[str], bad: BadImages) -> _Names:
    """Return the names of all images, of those that a training sees, and of those that a search sees.

    A name says everything that changes the pixels, because a training resumes only on data of the same name.
    """

    def name(*seen: str) -> str:
        splits = {split: images for split, images in source.splits.items() if split in seen}
        left = sum(len(bad.met.get(split, ())) for split in splits)  # in memory they are known already
        words = [*about, *([f"{left} left out"] if left else []), f"id {_fingerprint(splits)}"]
        return f"{prefix}{source.name} ({', '.join(words)})"

    return {"name": name(*SPLITS), "train_name": name("train"), "search_name": name("train", "val")}


def _fingerprint(splits: dict[str, ImageCollection]) -> str:
    """Return a hash of the names and labels of all images: a training must not resume on other images."""
    digest = hashlib.sha256()
    for name, images in splits.items():
        digest.update(name.encode() + images.labels.tobytes())
        for index in range(len(images.labels)):
            digest.update(images.name(index).encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:8]


def _reader(
    source: ImageSource,
    about: list[str],
    resolution: int,
    transforms: Transforms | None,
    workers: int,
    bad: BadImages,
) -> ReaderData:
    if transforms is None:
        transforms = Transforms(round(resolution / CROP_RATIO), resolution, IMAGENET_MEAN, IMAGENET_STD)
    if transforms.in_chans not in MODES:
        raise InputError(f"transforms: {transforms.in_chans} channels; allowed for images: 1 (grey) or 3 (RGB)")
    sizes = f"{resolution} px, evaluated at {transforms.crop} of {transforms.resize}"
    return ReaderData(
        **_names("", source, [sizes, *about], bad),
        classes=source.classes,
        splits=source.splits,
        transforms=transforms,
        resolution=resolution,
        workers=workers,
        bad=bad,
    )


def _in_memory(
    source: ImageSource, about: list[str], resolution: int | None, workers: int, bad: BadImages
) -> ImageData:
    side = resolution or _first_side(source.splits["train"], bad)
    channels = channels_in_memory(source, bad)
    count = sum(len(images.labels) for images in source.splits.values())
    # Checked before anything is decoded: running out of memory after an hour would be worse.
    if (needed := count * channels * side * side) > MEMORY:
        raise InputError(
            f"{count} images of {side} x {side} pixels take {needed / 2**30:.1f} GiB of memory; allowed: "
            f"{MEMORY / 2**30:.0f}; leave out memory:, or give a lower resolution or a limit"
        )
    scale = Transforms(side, side, (0.0,) * channels, (1.0,) * channels)  # only its sizes and channels are used

    def decode(split: str) -> Split:
        if split not in source.splits:  # `ImageData` has all three splits; a missing one is empty
            return Split(torch.empty(0, channels, side, side, dtype=torch.uint8), torch.empty(0, dtype=torch.long))
        images = source.splits[split]
        crop = functools.partial(eval_image, scale) if resolution else functools.partial(_unscaled, scale, images)
        return _decode(images, crop, workers, bad, split)

    train, val, test = map(decode, SPLITS)
    names = _names("memory:", source, [f"{side} px", *about], bad)
    mean, std = pixel_statistics(train.images)  # of train alone: the other splits must not influence a training
    return ImageData(**names, classes=source.classes, mean=mean, std=std, train=train, val=val, test=test, bad=bad)


def _readable(images: ImageCollection, rows: Iterable[int], bad: BadImages) -> Iterator[Any]:
    """Yield those of some training images that can be read, if the others are left out."""
    for row in rows:
        try:
            image = images.read(row)
        except InputError as error:
            bad.add("train", [(row, str(error))])
        else:
            yield image


def _first_side(images: ImageCollection, bad: BadImages) -> int:
    image = next(_readable(images, range(len(images.labels)), bad), None)
    if image is None:
        raise InputError("no image of train can be read; repair them")
    height: int = image.height
    return height


def channels_in_memory(source: ImageSource, bad: BadImages) -> int:
    """Return the number of channels of a set in memory: 1 if its images have no colours, otherwise 3."""
    return 1 if all(image.mode in ("1", "L") for image in sample_images(source, bad)) else 3


def sample_images(source: ImageSource, bad: BadImages) -> Iterator[Any]:
    """Yield a sample of the training images, spread over the whole set."""
    # Spread, since sets are sorted by class and a whole class may be grey.
    images = source.splits["train"]
    rows = np.linspace(0, len(images.labels) - 1, LOOKED_AT).astype(int)
    return _readable(images, sorted(set(rows.tolist())), bad)


def _unscaled(scale: Transforms, images: ImageCollection, image: Any, index: int) -> Tensor:
    """Return the pixels of an image that must have the right size already."""
    if image.size != (scale.crop, scale.crop):
        raise InputError(
            f"{images.name(index)} has {image.width} x {image.height} pixels; images in memory must be squares of one size, "
            f"here {scale.crop} pixels, the height of the first image: give a resolution"
        )
    return eval_image(scale, image)


def _decode(
    images: ImageCollection, prepare: Callable[[Any, int], Tensor], workers: int, bad: BadImages, split: str
) -> Split:
    rows = np.arange(len(images.labels))
    steps = [rows[i : i + EVAL_BATCH] for i in range(0, len(rows), EVAL_BATCH)]
    read = list(read_batches(images, steps, prepare, workers, bad, split=split))
    if not read:
        raise InputError(f"no image of {split} can be read; repair them, or remove the split")
    labels = images.labels[np.concatenate([found for _, found in read])]
    return Split(torch.cat([pixels for pixels, _ in read]), torch.from_numpy(labels))
