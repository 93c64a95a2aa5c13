"""Read annotation files in COCO's format, so that a mistake is one error line before a training starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, quote
from fbnetv3.files import is_file
from fbnetv3.schema import load_json

logger = logging.getLogger(__name__)

MOST_BYTES = 8 << 30  # the largest public annotation files have a few gigabytes
_IDS = (int, float, str)
_NUMBER = (int, float)
# Keys that every entry needs, with the types of their values. `iscrowd` and `area` are not among them: data sets made by others
# often lack both, and `_complete` fills them in.
_REQUIRED_KEYS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "images": {"id": _IDS, "file_name": (str,), "width": _NUMBER, "height": _NUMBER},
    "categories": {"id": _IDS, "name": (object,)},
    "annotations": {"id": _IDS, "image_id": _IDS, "category_id": _IDS, "bbox": (object,)},
}
_WORDS: Mapping[tuple[type, ...], str] = {_IDS: "a number or a text", _NUMBER: "a number", (str,): "a text"}


def read_annotations(path: Path, image_folder: Path) -> dict[str, Any]:
    """Return the content of an annotation file, after a check that it is consistent and belongs to an image folder.

    Annotations get `iscrowd` and `area` if they lack them, and lose a malformed `segmentation` or `keypoints`, because a
    detector needs their boxes alone. Only one image must exist in the folder: a training continues without a few images.

    Raises:
        InputError: there is no such file or folder, the file is damaged or incomplete, or it is of other images.
    """
    where = f"annotation file {path}"
    check_places(path, image_folder)
    # Other programs write NaN; where a number matters, it is checked below.
    data = load_json(path, "annotation file in COCO's format", most=MOST_BYTES, nan=True)
    # pycocotools would raise a KeyError or TypeError from deep inside for each of these mistakes.
    for name, keys in _REQUIRED_KEYS.items():
        entries = data.get(name) if isinstance(data, Mapping) else None
        # A file without annotations is legal: COCO's test files have none, and `keep_annotated` refuses to train on one.
        if not isinstance(entries, list) or not (entries or name == "annotations"):
            raise InputError(f"{where} lacks {name!r}; give a file in COCO's format")
        _check_entries(entries, name, keys, where)
    _check_annotations(data, where)
    if not any(is_file(image_folder / image["file_name"]) for image in data["images"]):
        raise InputError(f"none of the images of {path.name} is in {image_folder}; give the folder that contains them")
    _complete(data, where)
    return dict(data)


def check_places(path: Path, image_folder: Path) -> None:
    """Raise `InputError` unless there are an annotation file and an image folder at these places."""
    if not path.is_file():
        raise InputError(f"no annotation file {path}; give the path of a file in COCO's format")
    if not image_folder.is_dir():
        raise InputError(f"no image folder {image_folder}; give the folder of the images that {path.name} lists")


def _check_entries(entries: list[Any], name: str, keys: Mapping[str, tuple[type, ...]], where: str) -> None:
    """Raise `InputError` for an entry without a key, with a value of another type, or with the id of another entry."""
    for entry in entries:
        for key, kinds in keys.items():
            if not isinstance(entry, Mapping) or key not in entry:
                raise InputError(f"{where}: an entry of {name!r} lacks {key!r}; give a file in COCO's format")
            if not isinstance(value := entry[key], kinds) or (kinds == _NUMBER and not _is_number(value)):
                at = "" if key == "id" else f" {quote(entry['id'])}"
                raise InputError(f"{where}: {key} of {name[:-1]}{at} is {quote(value)}; allowed: {_WORDS[kinds]}")
    ids = {entry["id"] for entry in entries}
    # pycocotools indexes entries by id and would silently keep the last one of each id.
    if len(ids) < len(entries):
        raise InputError(f"{where}: several entries of {name!r} have the same id; give each entry another id")
    # Images and categories are sorted by id, and Python does not compare numbers with texts.
    if len({isinstance(value, str) for value in ids}) > 1 and name != "annotations":
        raise InputError(f"{where}: some ids of {name!r} are numbers and some are texts; give ids of one kind")


def _check_annotations(data: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for an annotation of an unknown category or image, or with a value that is none of its key."""
    image_ids, category_ids = ({entry["id"] for entry in data[name]} for name in ("images", "categories"))
    for annotation in data["annotations"]:
        at = f"{where}: annotation {quote(annotation['id'])}"
        if annotation["category_id"] not in category_ids:
            raise InputError(
                f"{at} has category {quote(annotation['category_id'])}, which is not among the {len(category_ids)} "
                "categories of the file; add the category, or remove the annotation"
            )
        if annotation["image_id"] not in image_ids:
            raise InputError(
                f"{at} is of image {quote(annotation['image_id'])}, which the file does not list; add the image, or remove "
                "the annotation"
            )
        if not _is_box(annotation["bbox"]):
            raise InputError(
                f"{at} has the box {quote(annotation['bbox'])}; allowed: four numbers, x, y, width, height in pixels, width "
                "and height not negative"
            )
        if annotation.get("iscrowd") not in (None, 0, 1):
            raise InputError(f"{at} has iscrowd {quote(annotation['iscrowd'])}; allowed: 0 and 1")
        if annotation.get("area") is not None and not _is_number(annotation["area"]):
            raise InputError(f"{at} has the area {quote(annotation['area'])}; allowed: a number, or leave it out")
        if annotation.get("ignore"):
            raise InputError(f'{at} has the key "ignore", which COCO\'s format does not have; remove the annotation')


def _complete(data: Mapping[str, Any], where: str) -> None:
    """Fill in what annotations lack, remove malformed segmentations, and warn of both kinds of dubious annotations."""
    sides = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    removed, outside = [], []
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["iscrowd"] = annotation.get("iscrowd") or 0
        if annotation.get("area") is None:
            annotation["area"] = width * height
        for key, fits in (("segmentation", _is_segmentation), ("keypoints", _are_keypoints)):
            if annotation.get(key) and not fits(annotation[key]):
                del annotation[key]
                removed.append(annotation["id"])
        right, bottom = sides[annotation["image_id"]]
        if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
            outside.append(annotation["id"])
    if removed:
        logger.warning(
            "%s: %d segmentations or keypoints are malformed, the first of annotation %s; only the box is used there",
            where,
            len(removed),
            quote(removed[0]),
        )
    if outside:
        logger.warning(
            "%s: %d boxes are outside of their images, the first is that of annotation %s; nothing can be learnt from them, "
            "and COCO's AP counts them as missed",
            where,
            len(outside),
            quote(outside[0]),
        )


def _is_box(box: Any) -> bool:
    """Return whether a value is a box: x, y, width, height, all finite, the last two not negative."""
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0


def _is_segmentation(value: Any) -> bool:
    """Return whether a value is a segmentation of COCO: run lengths with a size, or polygons, at least one with three points.

    The coordinates are not looked at: COCO has a hundred million.
    """
    if isinstance(value, Mapping):
        size, counts = value.get("size"), value.get("counts")
        sized = isinstance(size, list) and len(size) == 2 and all(map(_is_count, size))
        return sized and (isinstance(counts, str) or (isinstance(counts, list) and all(map(_is_count, counts))))
    return isinstance(value, list) and all(isinstance(polygon, list) for polygon in value) and bool(polygons(value))


def polygons(segmentation: list[list[float]]) -> list[list[float]]:
    """Return the polygons of a segmentation that have at least three points, as x and y in turn."""
    return [points for points in segmentation if len(points) >= 6 and len(points) % 2 == 0]


def _are_keypoints(value: Any) -> bool:
    """Return whether a value is a list of keypoints: x, y and the visibility of each."""
    return isinstance(value, list) and len(value) % 3 == 0 and all(map(_is_number, value))


def _is_count(value: Any) -> bool:
    """Return whether a value is a number of pixels."""
    return type(value) is int and 0 <= value < 2**31


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    # Python refuses to turn whole numbers of hundreds of digits into floats.
    return isinstance(value, float | int) and abs(value) < 1e300
