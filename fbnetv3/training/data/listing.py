"""The images below a folder that has one folder for each class, without what other programs hide there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fbnetv3.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
# Folders of other programs with copies of the images in them: of macOS's archives, and of Synology's thumbnails.
_FOREIGN = ("__MACOSX", "@eaDir")


def is_hidden(path: str) -> bool:
    """Whether a relative path, or one of its folders, belongs to another program: `.ipynb_checkpoints`, `._x.jpg`, ..."""
    return any((part.startswith(".") and part not in (".", "..")) or part in _FOREIGN for part in path.split("/"))


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones.

    Raises:
        InputError: the folder cannot be read, or there are none.
    """
    try:
        with os.scandir(folder) as opened:
            entries = [entry for entry in opened if not is_hidden(entry.name)]
        found = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}; give a folder of images") from None
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            logger.warning("%s is a link to nothing; if it is a class, it is missing", entry.path)
    if not found:
        raise InputError(f"{folder} has no folders of classes; a split is laid out as CLASS/IMAGE")
    return found


def list_classes(folder: Path, *, allow_empty: bool = False) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the images of CLASS/IMAGE below a folder: their paths as bytes, their labels int64, and the classes.

    Classes are numbered in the order of their names. The order of the images is that of torchvision's ImageFolder. Hidden
    files and folders are left out.

    Args:
        allow_empty: a class may have no image, but there must be one image in all.

    Raises:
        InputError: there are no classes, a class has no image, or a folder cannot be read.
    """
    classes = class_folders(folder)
    paths: list[bytes] = []
    counts = []
    for name in classes:
        before = len(paths)
        paths.extend(os.fsencode(f"{name}/{path}") for path in image_paths(folder / name))
        counts.append(len(paths) - before)
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if not paths or (empty and not allow_empty):
        shown = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise InputError(
            f"{folder} has no image of {shown}; a split is laid out as CLASS/IMAGE, every class with at least one image "
            f"({', '.join(SUFFIXES)})"
        )
    return np.array(paths), np.repeat(np.arange(len(classes), dtype=np.int64), counts), tuple(classes)


def image_paths(folder: Path) -> Iterator[str]:
    """Yield the paths of the images anywhere below a folder, relative to it and sorted by folder and name.

    Raises:
        InputError: a folder cannot be read, or a link leads to a folder that contains it.
    """
    found = []
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        # Changed in place, which keeps `os.walk` from entering the folders that are not listed any more.
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in folders:
            _check_link(os.path.join(root, name))  # noqa: PTH118
        found.append((root, sorted(name for name in files if name.lower().endswith(SUFFIXES) and not is_hidden(name))))
    for root, names in sorted(found):
        inside = os.path.relpath(root, folder)
        yield from (name if inside == os.curdir else f"{inside}/{name}" for name in names)


def _check_link(path: str) -> None:
    """Refuse a link to a folder around it: its images would be found again and again."""
    if os.path.islink(path):  # noqa: PTH114
        target = os.path.realpath(path)
        if os.path.commonpath([target, os.path.realpath(os.path.dirname(path))]) == target:  # noqa: PTH120
            raise InputError(f"{path} is a link to {target}, which contains it; remove the link")


def _refuse(error: OSError) -> None:
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}; make it readable") from None
