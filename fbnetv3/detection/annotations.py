"""Check annotation files in COCO's format, so that a mistake is one error line before a training starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.schema import load_json

# Keys that every entry needs. `iscrowd` and `area` are not among them: data sets made by others often lack both, and
# `evaluation.evaluate` fills them in.
MOST_BYTES = 8 << 30  # the largest public annotation files have a few gigabytes
_REQUIRED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def check_annotations(path: Path, image_folder: Path) -> None:
    """Raise `InputError` unless an annotation file is complete and consistent, and belongs to an image folder.

    One image of the file must exist in the folder. More are not looked for, because a training continues without a few
    missing images.
    """
    where = f"annotation file {path}"
    if not path.is_file():
        raise InputError(f"no {where}; give the path of a file in COCO's format")
    if not image_folder.is_dir():
        raise InputError(f"no image folder {image_folder}; give the folder of the images that {path.name} lists")
    # Other programs write NaN; where a number matters, it is checked below.
    data = load_json(path, "annotation file in COCO's format", most=MOST_BYTES, nan=True)
    # pycocotools would raise a KeyError or TypeError from deep inside for each of these mistakes.
    for name, keys in _REQUIRED_KEYS.items():
        entries = data.get(name) if isinstance(data, Mapping) else None
        # A file without annotations is legal: COCO's test files have none, and `keep_annotated` refuses to train on one.
        if not isinstance(entries, list) or not (entries or name == "annotations"):
            raise InputError(f"{where} lacks {name!r}; give a file in COCO's format")
        if missing := [key for entry in entries for key in keys if not isinstance(entry, Mapping) or key not in entry]:
            raise InputError(f"{where}: an entry of {name!r} lacks {missing[0]!r}; give a file in COCO's format")
        # pycocotools indexes entries by id and would silently keep the last one of each id.
        if len({entry["id"] for entry in entries}) < len(entries):
            raise InputError(f"{where}: several entries of {name!r} have the same id; give each entry another id")
    _check_boxes(data, where)
    if not any((image_folder / image["file_name"]).is_file() for image in data["images"]):
        raise InputError(f"none of the images of {path.name} is in {image_folder}; give the folder that contains them")


def _check_boxes(data: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for an annotation of an unknown category or image, or with a box that is none."""
    image_ids, category_ids = ({entry["id"] for entry in data[name]} for name in ("images", "categories"))
    for annotation in data["annotations"]:
        if annotation["category_id"] not in category_ids:
            raise InputError(
                f"{where}: annotation {annotation['id']} has category {annotation['category_id']}, which is not among the "
                f"{len(category_ids)} categories of the file; add the category, or remove the annotation"
            )
        if annotation["image_id"] not in image_ids:
            raise InputError(
                f"{where}: annotation {annotation['id']} is of image {annotation['image_id']}, which the file does not "
                "list; add the image, or remove the annotation"
            )
        if not _is_box(annotation["bbox"]):
            raise InputError(
                f"{where}: annotation {annotation['id']} has the box {annotation['bbox']}; allowed: four numbers, "
                "x, y, width, height in pixels, width and height not negative"
            )


def _is_box(box: Any) -> bool:
    """Return whether a value is a box: x, y, width, height, all finite, the last two not negative."""
    numbers = isinstance(box, list) and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    return numbers and len(box) == 4 and min(box[2:]) >= 0
