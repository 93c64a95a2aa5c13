"""The images of the benchmarks that train on CIFAR-10: found, decoded once, and kept in a file for all processes.

Decoding 60,000 JPEG files takes seconds of all processors. Several trainings side by side would each do it again.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from fbnetv3.benchmarks.experiments.cifar10 import is_jpeg
from fbnetv3.benchmarks.gpu.carried import CARRIED
from fbnetv3.benchmarks.harness import Values
from fbnetv3.device import placed
from fbnetv3.errors import InputError
from fbnetv3.search.execution.processes import available_workers
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import ImageData, Split
from fbnetv3.training.data.protocol import SPLITS

# With train/CLASS/IMAGE and test/CLASS/IMAGE below one folder.
ARCHIVES = ("cifar10_train.tar.xz", "cifar10_test.tar.xz")
Images = Annotated[
    str | None, typer.Option(help="Images, as `fbnetv3 train` takes them; by default the carried archives.")
]
MADE_UP = "made-up"  # instead of a data set: images of a rehearsal
CLASSES = 10
OF_A_CLASS = {"train": 20, "test": 4}  # made-up images


def find_images(data: str | None, folder: Path) -> str:
    """Return a data set as `load_data` takes it.

    Args:
        data: a data set; `MADE_UP` for the images of a rehearsal; None for the carried archives.
        folder: where archives are unpacked and made-up images are written.

    Raises:
        InputError: no data set was named, and no archives were carried.
    """
    if data == MADE_UP:
        return f"memory:{_make_up(folder)}"
    if data is not None:
        return data
    archives = [CARRIED / name for name in ARCHIVES]
    if not all(archive.is_file() for archive in archives):
        raise InputError(
            "there are no images: give --data, such as memory:torchvision:cifar10:FOLDER, or put "
            f"{' and '.join(ARCHIVES)} into {CARRIED}"
        )
    return f"memory:{unpack(archives, folder)}"


def unpack(archives: Iterable[Path], folder: Path) -> Path:
    """Unpack archives into a folder, and return the folder below it that has the folders of the splits.

    Raises:
        InputError: an archive would write outside the folder, or has no images.
    """
    make = cache(lambda path: path.mkdir(parents=True, exist_ok=True))
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise InputError(f"{archive}: {member.name} is outside the folder; give another archive")
                # Not `extractall`, whose checks and settings of each file take as long as writing these small ones.
                if content := tar.extractfile(member) if member.isfile() else None:
                    make(folder / path.parent)
                    (folder / path).write_bytes(content.read())
    found = next(folder.rglob("train"), None)
    if found is None:
        raise InputError(f"the archives in {CARRIED} have no folder train with images; give other archives")
    return found.parent


def _make_up(folder: Path) -> Path:
    """Write small JPEG files of ten classes, which differ in brightness."""
    rng = np.random.default_rng(0)
    for split, count in OF_A_CLASS.items():
        for label in range(CLASSES):
            place = folder / "made-up" / split / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(20 * label, 20 * label + 60, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.jpg")
    return folder / "made-up"


def keep_images(data: str, side: int, limit: int | None, file: Path) -> Values:
    """Decode a data set at a side in pixels, and keep it in a file. Return what a result file says of it.

    Raises:
        InputError: the set is not one in memory, or cannot be read.
    """
    images = decode(data, side, limit)
    keep(images, file)
    return {split: images.count(split) for split in SPLITS} | {"jpeg": is_jpeg(data)}


def decode(data: str, side: int, limit: int | None = None) -> ImageData:
    """Return all images at a side in pixels, decoded by all processors.

    Raises:
        InputError: the set is not one in memory, or cannot be read.
    """
    images = load_data(data, resolution=side, limit=limit, workers=available_workers())
    if not isinstance(images, ImageData):
        raise InputError(f"data {data!r} is read from files during a training; put memory: before it")
    return images


def keep(images: ImageData, file: Path) -> None:
    """Write images into a file that `load_kept` opens."""
    words = {name: getattr(images, name) for name in ("name", "classes", "mean", "std", "train_name", "search_name")}
    splits = {name: (images.split(name).images, images.split(name).labels) for name in SPLITS}
    torch.save(words | splits, file)


@cache  # all trainings of a process share the images on the device
def load_kept(file: Path, device: str, every: int = 1, val_every: int = 1) -> ImageData:
    """Return the images of a file, on a device.

    Args:
        every: take every so many-th training image. Images are in the order of their classes, so that all classes lose the
            same share.
        val_every: likewise for the validation images.
    """
    content = torch.load(file, mmap=True, weights_only=True)  # mapped into memory: processes share one copy
    steps = {"train": every, "val": val_every, "test": 1}
    splits = {name: Split(*(part[::step] for part in content[name])) for name, step in steps.items()}
    return ImageData(**content | splits).on_device(placed(device))  # with its index, as trainings compare devices
