"""Data sets in COCO's format for detectron2: checked before they are used, read without stopping at a damaged picture.

A data set is named `coco:ANNOTATIONS.json:IMAGES` (a file and the folder of its pictures), or as detectron2's catalogue has it
(`coco_2017_train`, or one that the user registered). Every batch is a function of (seed, step) alone, so that a training
goes on where it was stopped, whatever the number of processes that read pictures.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.samplers import InferenceSampler

from fbnetv3.errors import InputError
from fbnetv3.training.share import Share

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # a picture and its boxes, as detectron2 describes them
PREFIX = "coco:"


def data_name(annotations: str | Path, images: str | Path) -> str:
    """The name of a data set of these files."""
    return f"{PREFIX}{Path(annotations).resolve()}:{Path(images).resolve()}"


def coco_names(root: str | Path) -> tuple[str, str]:
    """The names of COCO 2017's train and val in a folder of COCO's layout.

    Raises:
        InputError: the folder has not that layout.
    """
    root = Path(root).expanduser()
    names = []
    for split in ("train2017", "val2017"):
        file, images = root / "annotations" / f"instances_{split}.json", root / split
        if not file.is_file() or not images.is_dir():
            raise InputError(
                f"{root} has not COCO's layout: it needs annotations/instances_{split}.json and the folder {split}; for other "
                "data give --train, --val and --images"
            )
        names.append(data_name(file, images))
    return names[0], names[1]


def load_records(name: str) -> list[Record]:
    """Pictures and boxes of a data set, after a check of its file.

    Raises:
        InputError: no such data set, file or folder, a damaged file, or one that contradicts itself.
    """
    if name not in DatasetCatalog.list():
        if not name.startswith(PREFIX) or name.count(":") < 2:
            raise InputError(f"unknown data set {name!r}; give {PREFIX}ANNOTATIONS.json:IMAGES, or a registered name")
        file, images = name.removeprefix(PREFIX).rsplit(":", 1)
        register_coco_instances(name, {}, file, images)
    about = MetadataCatalog.get(name)
    if about.get("json_file") is not None:
        _check_file(Path(about.json_file), Path(about.image_root))
        with redirect_stdout(StringIO()):  # pycocotools prints
            return load_coco_json(about.json_file, about.image_root, name)  # type: ignore[no-any-return]
    return list(DatasetCatalog.get(name))


def class_names(name: str) -> tuple[str, ...]:
    """The classes of a data set whose records were loaded, in the order of the model's."""
    return tuple(MetadataCatalog.get(name).thing_classes)


def check_classes(cfg: CfgNode, name: str) -> None:
    """Raise `InputError` unless the model has as many classes as the data set."""
    classes, built = class_names(name), cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if len(classes) != built:
        raise InputError(
            f"{_short(name)} has {len(classes)} classes, the model {built}: set MODEL.ROI_HEADS.NUM_CLASSES {len(classes)}"
        )


def check_same_classes(train: str, test: str) -> None:
    """Raise `InputError` unless both data sets have the same classes in the same order."""
    first, second = class_names(train), class_names(test)
    if first != second:
        odd = sorted(set(first) ^ set(second)) or ["their order"]
        raise InputError(
            f"{_short(train)} and {_short(test)} have different categories ({', '.join(odd[:3])}); give files of the same"
        )


def _check_file(path: Path, images: Path) -> None:
    where = f"annotation file {path}"
    if not path.is_file():
        raise InputError(f"no {where}; give the path of a file in COCO's format")
    if not images.is_dir():
        raise InputError(f"no folder of pictures {images}; give the one that the file names of {path.name} lie in")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read ({error}); give a file in COCO's format") from None
    for key in ("images", "annotations", "categories"):
        if (
            not isinstance(data, Mapping)
            or not isinstance(data.get(key), list)
            or (key != "annotations" and not data[key])
        ):
            raise InputError(f"{where} lacks {key!r}; give a file in COCO's format")
    try:
        pictures, categories = (
            {row["id"] for row in data["images"]},
            {row["id"]: row["name"] for row in data["categories"]},
        )
        _check_boxes(data["annotations"], pictures, categories, where)
        if len({row["id"] for row in data["annotations"]}) < len(data["annotations"]):
            raise InputError(f"{where}: several annotations have one id; give every one its own")
    except (KeyError, TypeError) as error:
        raise InputError(f"{where}: an entry lacks {error}; give a file in COCO's format") from None


def _check_boxes(
    rows: Sequence[Mapping[str, Any]], pictures: set[Any], categories: Mapping[Any, str], where: str
) -> None:
    for row in rows:
        if row["category_id"] not in categories:
            raise InputError(
                f"{where}: annotation {row['id']} has category {row['category_id']}, which is not among the "
                f"{len(categories)} categories of the file: add it there, or drop the annotation"
            )
        if row["image_id"] not in pictures:
            raise InputError(
                f"{where}: annotation {row['id']} is of picture {row['image_id']}, which the file does not list"
            )
        box = row["bbox"]
        if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) < 0:
            raise InputError(f"{where}: annotation {row['id']} has box {box}; allowed: x, y, width, height in pixels")


def with_boxes(records: Sequence[Record], name: str) -> list[Record]:
    """Those with a box that is not of a crowd, which alone can be trained on; how many are left out is a warning.

    Raises:
        InputError: none is left.
    """
    kept = [record for record in records if any(not box.get("iscrowd", 0) for box in record["annotations"])]
    if not kept:
        raise InputError(f"{_short(name)} has no picture with a box; give annotations to train on")
    if len(kept) < len(records):
        logger.warning("%d of %d pictures have no box and are not trained on", len(records) - len(kept), len(records))
    return kept


def epoch_batches(landscape: np.ndarray, batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A pass over the pictures in random order, in batches of one orientation each, so that little is padded.

    What is left of both orientations makes mixed batches; what does not fill one is left out of this pass.

    Args:
        landscape: [n] bool, whether a picture is wider than high.

    Returns:
        n // batch arrays of `batch` indices.
    """
    order = rng.permutation(len(landscape))
    groups = [order[landscape[order]], order[~landscape[order]]]
    whole = [group[: len(group) // batch * batch] for group in groups]
    rest = np.concatenate([group[len(kept) :] for group, kept in zip(groups, whole, strict=True)])
    parts = np.concatenate([*whole, rest[: len(rest) // batch * batch]])
    batches = parts.reshape(-1, batch)
    return [batches[i] for i in rng.permutation(len(batches))]


class Steps(torch.utils.data.Dataset[list[Record]]):
    """The batches of a training: entry i is this process's part of step i.

    A picture that cannot be read is a warning and missing from its batch.

    Raises:
        InputError: fewer pictures than a batch has, or a batch that the processes cannot share.
    """

    def __init__(
        self, records: Sequence[Record], mapper: DatasetMapper, batch: int, seed: int, steps: int, share: Share
    ) -> None:
        if len(records) < batch:
            raise InputError(f"{len(records)} pictures are fewer than a batch of {batch}: lower SOLVER.IMS_PER_BATCH")
        share.local(batch)
        self.records, self.mapper, self.batch, self.seed, self.steps, self.share = (
            records,
            mapper,
            batch,
            seed,
            steps,
            share,
        )
        self.landscape = np.array([record["width"] > record["height"] for record in records])
        self.per_epoch = len(records) // batch
        self._epoch = functools.lru_cache(maxsize=1)(self._draw)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[Record]:
        chosen = self.indices(step)
        read = [self._read(int(chosen[i]), step) for i in self.share.of(self.batch)]
        batch = [record for record in read if record is not None]
        if not batch:
            raise InputError(f"no picture of step {step} can be read; repair or drop those that were named")
        return batch

    def indices(self, step: int) -> np.ndarray:
        """Pictures of a step, of all processes together."""
        return self._epoch(step // self.per_epoch)[step % self.per_epoch]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        return epoch_batches(self.landscape, self.batch, np.random.default_rng([self.seed, epoch]))

    def _read(self, index: int, step: int) -> Record | None:
        with _numpy_seeded([self.seed, step, index]):
            return read_record(self.records[index], self.mapper)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = functools.lru_cache(maxsize=1)(self._draw)


def read_record(record: Record, mapper: DatasetMapper) -> Record | None:
    """A picture prepared for the model, or None with a warning where it cannot be read."""
    try:
        return mapper(record)  # type: ignore[no-any-return]
    except Exception as error:  # Pillow's errors are many, detectron2 has its own for a wrong size
        words = " ".join(str(error).split())[:160]
        logger.warning("%s is left out: it cannot be read (%s)", record["file_name"], words or type(error).__name__)
        return None


@contextmanager
def _numpy_seeded(seed: Sequence[int]) -> Iterator[None]:
    """detectron2's augmentations draw from numpy's global generator; it is left as it was."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    try:
        yield
    finally:
        np.random.set_state(before)


def step_loader(steps: Steps, start: int, workers: int) -> torch.utils.data.DataLoader[list[Record]]:
    """The steps from `start` on, read ahead by `workers` processes."""
    order = range(start, len(steps))
    return torch.utils.data.DataLoader(steps, batch_size=None, sampler=order, num_workers=workers, collate_fn=_as_it_is)


def test_loader(
    records: Sequence[Record], mapper: DatasetMapper, workers: int
) -> torch.utils.data.DataLoader[list[Record]]:
    """Every picture once, this process's part, one at a time; the list is empty where one cannot be read."""
    return torch.utils.data.DataLoader(
        _Pictures(records, mapper), batch_size=None, sampler=InferenceSampler(len(records)), num_workers=workers,
        collate_fn=_as_it_is,
    )  # fmt: skip


class _Pictures(torch.utils.data.Dataset[list[Record]]):
    def __init__(self, records: Sequence[Record], mapper: DatasetMapper) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[Record]:
        record = read_record(self.records[index], self.mapper)
        return [] if record is None else [record]


def _as_it_is(batch: list[Record]) -> list[Record]:
    return batch


def _short(name: str) -> str:
    return Path(name.removeprefix(PREFIX).rsplit(":", 1)[0]).name
