"""Annotation files in COCO's format, checked so that a mistake is one line before a training and no traceback within it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError

_ENTRIES = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def check_file(path: Path, images: Path) -> None:
    """Raise `InputError` unless a file in COCO's format is whole, agrees with itself, and is of a folder's pictures.

    Of the pictures one is looked for: a few that are missing do not stop a training.
    """
    where = f"annotation file {path}"
    if not path.is_file():
        raise InputError(f"no {where}; give the path of a file in COCO's format")
    if not images.is_dir():
        raise InputError(f"no folder of pictures {images}; give the one that the file names of {path.name} lie in")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read ({error}); give a file in COCO's format") from None
    for key, entries in _ENTRIES.items():
        rows = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(rows, list) or not (rows or key == "annotations"):
            raise InputError(f"{where} lacks {key!r}; give a file in COCO's format")
        if lacking := [entry for row in rows for entry in entries if not isinstance(row, Mapping) or entry not in row]:
            raise InputError(f"{where}: an entry of {key!r} lacks {lacking[0]!r}; give a file in COCO's format")
        if len({row["id"] for row in rows}) < len(rows):
            raise InputError(f"{where}: several entries of {key!r} have one id; give every one its own")
    _check_boxes(data, where)
    if not any((images / row["file_name"]).is_file() for row in data["images"]):
        raise InputError(f"none of the pictures of {path.name} lies in {images}; give the folder that they lie in")


def _check_boxes(data: Mapping[str, Any], where: str) -> None:
    pictures, categories = ({row["id"] for row in data[key]} for key in ("images", "categories"))
    for row in data["annotations"]:
        if row["category_id"] not in categories:
            raise InputError(
                f"{where}: annotation {row['id']} has category {row['category_id']}, which is not among the "
                f"{len(categories)} categories of the file: add it there, or drop the annotation"
            )
        if row["image_id"] not in pictures:
            raise InputError(
                f"{where}: annotation {row['id']} is of picture {row['image_id']}, which the file does not list"
            )
        if not _is_box(row["bbox"]):
            raise InputError(
                f"{where}: annotation {row['id']} has box {row['bbox']}; allowed: x, y, width, height in pixels"
            )


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    return numbers and len(box) == 4 and min(box[2:]) >= 0
