"""Data sets in COCO's format for detectron2: how they are named, loaded and checked before they are used.

A data set is named `coco:ANNOTATIONS.json:IMAGES` (an annotation file and its image folder), or by a name of detectron2's
catalogue (`coco_2017_train`, or one that the user registered).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from pycocotools import mask

from fbnetv3.detection.annotations import polygons, read_annotations
from fbnetv3.errors import InputError

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # detectron2's description of an image and its boxes
PREFIX = "coco:"


def dataset_name(annotations: str | Path, images: str | Path) -> str:
    """Return the name of the data set that consists of an annotation file and an image folder."""
    return f"{PREFIX}{Path(annotations).resolve()}:{Path(images).resolve()}"


def coco_2017_names(root: str | Path, splits: Sequence[str] = ("train2017", "val2017")) -> list[str]:
    """Return the names of the splits of COCO 2017 in a folder with COCO's layout.

    Raises:
        InputError: the folder has another layout.
    """
    root = Path(root).expanduser()
    names = []
    for split in splits:
        file, images = root / "annotations" / f"instances_{split}.json", root / split
        if not file.is_file() or not images.is_dir():
            raise InputError(
                f"{root} does not have COCO's layout: it needs annotations/instances_{split}.json and the folder {split}; for "
                "other data give --train, --val and --images"
            )
        names.append(dataset_name(file, images))
    return names


def load_records(name: str) -> list[Record]:
    """Return the images and boxes of a data set as detectron2's records, after a check of its annotation file.

    Raises:
        InputError: an unknown data set, a missing file or folder, or a damaged or inconsistent annotation file.
    """
    # The catalogue is global in a process, and registering a name twice is an error there.
    if name not in DatasetCatalog.list():
        if not name.startswith(PREFIX) or name.count(":") < 2:
            raise InputError(
                f"unknown data set {name!r}; give {PREFIX}ANNOTATIONS.json:IMAGES, or a name registered in detectron2"
            )
        # From the right, because a path may contain a colon on some systems.
        file, images = name.removeprefix(PREFIX).rsplit(":", 1)
        register_coco_instances(name, {}, file, images)
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file") is None:  # a data set in another format, which a user registered
        with _as_input_error(name):
            return list(DatasetCatalog.get(name))
    data = read_annotations(Path(metadata.json_file), Path(metadata.image_root))
    categories = sorted(data["categories"], key=lambda row: row["id"])
    with _as_input_error(name):  # the catalogue refuses other classes than those that it has
        metadata.thing_classes = [str(row["name"]) for row in categories]
        metadata.thing_dataset_id_to_contiguous_id = {row["id"]: i for i, row in enumerate(categories)}
    return _records(data, Path(metadata.image_root), metadata.thing_dataset_id_to_contiguous_id)


def _records(data: Mapping[str, Any], folder: Path, numbers: Mapping[Any, int]) -> list[Record]:
    """Return the images of an annotation file in the order of their ids, as detectron2's `load_coco_json` does.

    That function reads the file again, without what `read_annotations` completes, and drops boxes with a malformed
    segmentation. It also leaves out `area`, which the evaluation needs.

    Args:
        numbers: the model's class by the id of a category.
    """
    by_image: dict[Any, list[Record]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        record: Record = {key: annotation[key] for key in ("iscrowd", "bbox", "area")}
        record |= {"bbox_mode": BoxMode.XYWH_ABS, "category_id": numbers[annotation["category_id"]]}
        if segmentation := annotation.get("segmentation"):
            record["segmentation"] = _segmentation(segmentation)
        if keypoints := annotation.get("keypoints"):
            # Keypoints are indices of pixels, whose middle is half a pixel further. Every third number is no coordinate.
            record["keypoints"] = [value if i % 3 == 2 else value + 0.5 for i, value in enumerate(keypoints)]
        by_image[annotation["image_id"]].append(record)
    return [
        {
            "file_name": str(folder / image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": by_image[image["id"]],
        }
        for image in sorted(data["images"], key=lambda image: image["id"])
    ]


def _segmentation(value: Any) -> Any:
    """Return a segmentation as detectron2 wants it: polygons, or compressed run lengths."""
    if isinstance(value, list):
        return polygons(value)
    return mask.frPyObjects(value, *value["size"]) if isinstance(value["counts"], list) else value


@contextmanager
def _as_input_error(name: str) -> Iterator[None]:
    """Turn an error of detectron2's readers into an `InputError`: they raise AssertionError, KeyError and more."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).split())[:160]
        raise InputError(
            f"detectron2 refuses {_file_name(name)} ({words}); repair the data set, or give another one"
        ) from error


def class_names(name: str) -> tuple[str, ...]:
    """Return the class names of a data set in the order of the model's outputs, once its records are loaded."""
    return tuple(MetadataCatalog.get(name).thing_classes)


def check_class_count(cfg: CfgNode, name: str) -> None:
    """Raise `InputError` unless the model has as many classes as the data set."""
    count, built = len(class_names(name)), cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if count != built:
        raise InputError(
            f"{_file_name(name)} has {count} classes, but the model has {built}: set MODEL.ROI_HEADS.NUM_CLASSES {count}"
        )


def check_same_classes(train: str, test: str) -> None:
    """Raise `InputError` unless two data sets have the same classes in the same order."""
    # detectron2 numbers the classes of each file separately: another order would silently mix up the classes.
    first, second = class_names(train), class_names(test)
    if first != second:
        different = sorted(set(first) ^ set(second)) or ["their order"]
        raise InputError(
            f"{_file_name(train)} and {_file_name(test)} have different categories ({', '.join(different[:3])}); give files "
            "with the same categories"
        )


def keep_annotated(records: Sequence[Record], name: str) -> list[Record]:
    """Return the records that can be trained on: those with a box that does not mark a crowd. Warn about the others.

    Raises:
        InputError: no record is left.
    """
    kept = [record for record in records if any(not box.get("iscrowd", 0) for box in record["annotations"])]
    if not kept:
        raise InputError(
            f"{_file_name(name)} has no image with a box that does not mark a crowd; give annotations to train on"
        )
    if len(kept) < len(records):
        logger.warning("%d of %d images have no box and are not trained on", len(records) - len(kept), len(records))
    return kept


def dataset_of(cfg: CfgNode, split: str) -> str:
    """Return the name of the one data set in `DATASETS.TRAIN` or `DATASETS.TEST`.

    Raises:
        InputError: the config names none, or several.
    """
    names = cfg.DATASETS[split]
    if len(names) != 1:
        raise InputError(f"DATASETS.{split} is {names}; give exactly one data set")
    return str(names[0])


def _file_name(name: str) -> str:
    """Return the name of a data set's annotation file, for messages; a registered name stays."""
    return Path(name.removeprefix(PREFIX).rsplit(":", 1)[0]).name
