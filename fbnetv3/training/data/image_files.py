"""Labelled images that can be read in any order, and how they are found in folders and by lists of files.

Reading the n-th image makes shuffling, the division among processes, and resuming the same for every source.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fbnetv3.errors import InputError, quote
from fbnetv3.files import is_file
from fbnetv3.training.data.listing import is_hidden, list_classes
from fbnetv3.transforms import decode_image

logger = logging.getLogger(__name__)

LONGEST_PATH = 4096  # of Linux, in characters

# The names of the splits in folders, file lists and shards; the preferred name comes first.
SPELLINGS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}


class ImageCollection(Protocol):
    """The labelled images of a split, in a fixed order. It is copied to worker processes."""

    @property
    def labels(self) -> np.ndarray:
        """The class of every image, int64 [n]."""
        ...

    def name(self, index: int) -> str:
        """Return what identifies an image within the set, such as its path."""
        ...

    def read(self, index: int) -> Any:
        """Return an image as `fbnetv3.transforms.decode_image` does.

        Raises:
            InputError: the image is damaged. The message names it.
        """
        ...


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A set of images where it is kept. `train` is always among the splits."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, ImageCollection]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files below a folder.

    `files` has their paths below `root` as bytes in one block of memory. Worker processes share such a block; a list of a
    million strings would be copied to each of them.
    """

    root: Path
    files: np.ndarray
    labels: np.ndarray

    def name(self, index: int) -> str:
        """Return the path below the folder."""
        return os.fsdecode(bytes(self.files[index]))

    def read(self, index: int) -> Any:
        """Return an image, as `ImageCollection.read` describes."""
        path = self.root / self.name(index)
        return decode(lambda: Image.open(path), str(path))


@dataclass(frozen=True, eq=False)
class DatasetImages:
    """Images of another library's data set, which `open` returns by their index."""

    where: str
    open: Callable[[int], Any]
    labels: np.ndarray

    def name(self, index: int) -> str:
        """Return the index as text; nothing else is known of the image."""
        return f"image {index}"

    def read(self, index: int) -> Any:
        """Return an image, as `ImageCollection.read` describes."""
        return decode(lambda: self.open(index), f"{self.where}, image {index}")


def decode(open_image: Callable[[], Any], where: str) -> Any:
    """Return an image of a set, as `ImageCollection.read` describes, or the error that names it by `where`."""
    return decode_image(open_image, where, "repair it or remove it from the set")


LAYOUT = (
    "a folder of images is laid out as train/CLASS/IMAGE, and likewise val/ or validation/, and test/; or as CLASS/IMAGE, and "
    "a part of it is held out"
)


def open_folder(root: Path) -> ImageSource:
    """Find the images of a folder that is laid out as SPLIT/CLASS/IMAGE, or as CLASS/IMAGE, which is all train.

    Classes are numbered in the order of their names. Hidden files and folders are left out. In `val` and `test` a class may be
    an empty folder.

    Raises:
        InputError: the layout is another one, or the splits do not have the same classes.
    """
    # Reversed, so that the preferred name overwrites the others.
    found = {
        split: root / name for split, names in SPELLINGS.items() for name in reversed(names) if (root / name).is_dir()
    }
    if not found and root.is_dir() and not any((inside / "train").is_dir() for inside in root.iterdir()):
        found = {"train": root}  # where no folder inside is a set of its own
    if "train" not in found:
        raise InputError(f"no folder {root / 'train'}; {LAYOUT}")
    classes: dict[str, tuple[str, ...]] = {}
    splits: dict[str, ImageCollection] = {}
    for split, folder in found.items():
        try:
            files, labels, classes[split] = list_classes(folder, allow_empty=split != "train")
        except InputError as error:
            if folder is root:
                raise InputError(f"{error}; {LAYOUT}") from None
            raise
        splits[split] = ImageFiles(folder, files, labels)
        # A class that is missing in one split would shift the numbers of all classes after it.
        if odd := set(classes[split]) ^ set(classes["train"]):
            raise InputError(
                f"{found['train']} and {folder} have different classes: only one of them has {', '.join(sorted(odd))}"
            )
    return ImageSource(root.resolve().name, classes["train"], splits)


def open_lists(lists: Path, root: Path) -> ImageSource:
    """Find images below `root` by lists of files: `train.txt`, and perhaps `val.txt` and `test.txt`, one path a line.

    The class of an image is the name of the folder that holds it. Classes are numbered in the order of their names. Blank
    lines, hidden files and hidden classes are left out.

    Raises:
        InputError: there is no such list, or a list is empty, has a path without a folder or to no file, or has a class that
            the list of train lacks.
    """
    found = {
        split: path
        for split, names in SPELLINGS.items()
        for name in reversed(names)
        if (path := lists / f"{name}.txt").is_file()
    }
    if "train" not in found:
        raise InputError(f"no file {lists / 'train.txt'}; file lists are train.txt, and likewise val.txt and test.txt")
    paths = {split: _read_list(path, root) for split, path in found.items()}
    folders = {split: [Path(line).parent.name for line in lines] for split, lines in paths.items()}
    classes = sorted(set(folders["train"]))
    splits: dict[str, ImageCollection] = {}
    for split, names in folders.items():
        if odd := set(names) - set(classes):
            raise InputError(f"{found[split]} has classes that {found['train']} lacks: {', '.join(sorted(odd))}")
        # Numbered by the classes of train, also where another split lacks some of them.
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number[name] for name in names], dtype=np.int64)
        splits[split] = ImageFiles(root, np.array([os.fsencode(line) for line in paths[split]]), labels)
    return ImageSource(f"list:{lists.resolve().name}:{root.resolve().name}", tuple(classes), splits)


def _read_list(path: Path, root: Path) -> list[str]:
    """Return the lines of a file list. Only the first image is looked for, because there may be a million."""
    try:
        # File names are bytes, which need not be UTF-8; `surrogateescape` and `fsencode` bring them back.
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a list of files") from None
    # Some editors put a byte order mark before the first line, and many a blank line after the last one.
    lines = {number: line for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1) if line.strip()}
    for number, line in lines.items():
        if len(line) > LONGEST_PATH:
            raise InputError(f"{path}, line {number}: {quote(line)} is longer than any path; give CLASS/IMAGE")
        if not Path(line).parent.name:
            raise InputError(f"{path}, line {number}: {quote(line)} has no folder to name its class; give CLASS/IMAGE")
    # Only the class and the file: the images may well be somewhere below a hidden folder.
    seen = [line for line in lines.values() if not is_hidden("/".join(Path(line).parts[-2:]))]
    if hidden := len(lines) - len(seen):
        logger.warning("%d of the images that %s names are hidden files or in hidden folders; left out", hidden, path)
    if not seen or not is_file(root / seen[0]):
        problem = f"no image {str(root / seen[0])[-200:]}" if seen else "it is empty"
        raise InputError(f"{path}: {problem}; give paths below the folder of images, one a line")
    return seen


def list_files(listed: Any, folder: Path) -> ImageFiles:
    """Return the files that torchvision's ImageFolder found below a folder, without hidden ones."""
    # Relative paths: they identify the images also when the folder is moved.
    found = [(os.path.relpath(path, folder), label) for path, label in listed.samples]
    seen = [(os.fsencode(path), label) for path, label in found if not is_hidden(path)]
    return ImageFiles(folder, np.array([path for path, _ in seen]), np.array([k for _, k in seen], dtype=np.int64))
