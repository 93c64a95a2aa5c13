"""ImageCollection that can be read in any order, so that shuffling, sharing and resuming are the same for every source."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from fbnetv3.errors import InputError

SPELLINGS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}


class ImageCollection(Protocol):
    """The pictures of a split in a fixed order; copied to worker processes."""

    @property
    def labels(self) -> np.ndarray:
        """Class of every picture, int64 [n]."""
        ...

    def name(self, index: int) -> str:
        """The picture's place inside the set."""
        ...

    def read(self, index: int) -> Any:
        """The Pillow image, whole and upright.

        Raises:
            InputError: it is damaged; the message names it.
        """
        ...


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A set as it lies on disk; `train` is always among the splits."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, ImageCollection]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Picture files under a folder."""

    root: Path
    files: np.ndarray  # paths below `root` as bytes: one block of memory, which worker processes share
    labels: np.ndarray

    def name(self, index: int) -> str:
        """The path below the split's folder."""
        return os.fsdecode(bytes(self.files[index]))

    def read(self, index: int) -> Any:
        """See `ImageCollection.read`."""
        path = self.root / self.name(index)
        return decode(lambda: Image.open(path), str(path))


@dataclass(frozen=True, eq=False)
class DatasetImages:
    """What a set of somebody else's opens by number."""

    where: str
    open: Callable[[int], Any]
    labels: np.ndarray

    def name(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def read(self, index: int) -> Any:
        """See `ImageCollection.read`."""
        return decode(lambda: self.open(index), f"{self.where}, image {index}")


def decode(open_image: Callable[[], Any], where: str) -> Any:
    """A Pillow image with all its pixels, turned upright as its EXIF data says.

    Raises:
        InputError: it is damaged or cannot be opened.
    """
    try:
        with open_image() as image:
            return ImageOps.exif_transpose(image)
    except Exception as error:  # a decoder raises whatever the damage provokes
        raise InputError(
            f"{where} is no picture that can be read ({type(error).__name__}: {error}); mend it or take it out of the set"
        ) from None


def open_folder(root: Path) -> ImageSource:
    """ImageCollection laid out as SPLIT/CLASS/PICTURE; classes are numbered by name.

    Raises:
        InputError: laid out in another way, or not the same classes in every split.
    """
    found = {
        split: root / name for split, names in SPELLINGS.items() for name in reversed(names) if (root / name).is_dir()
    }
    if "train" not in found:
        raise InputError(
            f"no folder {root / 'train'}; a folder of pictures is laid out as train/CLASS/PICTURE, and likewise val/ or "
            "validation/, and test/"
        )
    classes: dict[str, tuple[str, ...]] = {}
    splits: dict[str, ImageCollection] = {}
    for split, folder in found.items():
        splits[split], classes[split] = _image_folder(folder)
        if odd := set(classes[split]) ^ set(classes["train"]):
            raise InputError(
                f"{found['train']} and {folder} have different classes: {', '.join(sorted(odd))} are in one of them alone"
            )
    return ImageSource(root.resolve().name, classes["train"], splits)


def open_lists(lists: Path, root: Path) -> ImageSource:
    """ImageCollection below `root` by lists of files, `train.txt` and perhaps `val.txt`, `test.txt`: paths, one a line.

    The class of a picture is the name of the folder that it lies in; classes are numbered by name.

    Raises:
        InputError: no such lists, an empty one, a path without a folder or to nothing, or a class that train lacks.
    """
    found = {
        split: path
        for split, names in SPELLINGS.items()
        for name in reversed(names)
        if (path := lists / f"{name}.txt").is_file()
    }
    if "train" not in found:
        raise InputError(f"no file {lists / 'train.txt'}; file lists are train.txt, and likewise val.txt and test.txt")
    paths = {split: _listed(path, root) for split, path in found.items()}
    folders = {split: [Path(line).parent.name for line in lines] for split, lines in paths.items()}
    classes = sorted(set(folders["train"]))
    splits: dict[str, ImageCollection] = {}
    for split, names in folders.items():
        if odd := set(names) - set(classes):
            raise InputError(f"{found[split]} has classes that {found['train']} lacks: {', '.join(sorted(odd))}")
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number[name] for name in names], dtype=np.int64)
        splits[split] = ImageFiles(root, np.array([os.fsencode(line) for line in paths[split]]), labels)
    return ImageSource(f"list:{lists.resolve().name}:{root.resolve().name}", tuple(classes), splits)


def _listed(path: Path, root: Path) -> list[str]:
    """The lines of a file list; of the pictures only the first is looked for, since there may be a million."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a list of files") from None
    for number, line in enumerate(lines, start=1):
        if not Path(line).parent.name:
            raise InputError(f"{path}, line {number}: {line!r} has no folder to name its class; give CLASS/PICTURE")
    if not lines or not (root / lines[0]).is_file():
        first = f"no picture {root / lines[0]}" if lines else "it is empty"
        raise InputError(f"{path}: {first}; give paths below the folder of pictures, one a line")
    return lines


def _image_folder(folder: Path) -> tuple[ImageFiles, tuple[str, ...]]:
    from torchvision.datasets import ImageFolder

    try:
        listed = ImageFolder(str(folder))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{folder}: {error}; a split is laid out as CLASS/PICTURE, every class with a picture"
        ) from None
    return list_files(listed, folder), tuple(listed.classes)


def list_files(listed: Any, folder: Path) -> ImageFiles:
    """What torchvision's ImageFolder found below a folder."""
    paths = [os.fsencode(os.path.relpath(path, folder)) for path, _ in listed.samples]
    return ImageFiles(folder, np.array(paths), np.array(listed.targets, dtype=np.int64))
