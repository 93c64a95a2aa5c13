"""Data sets in COCO's format for detectron2: checked before they are used, read without stopping at a damaged picture.

A data set is named `coco:ANNOTATIONS.json:IMAGES` (a file and the folder of its pictures), or as detectron2's catalogue has it
(`coco_2017_train`, or one that the user registered). Every batch is a function of (seed, step) alone, so that a training
goes on where it was stopped, whatever the number of processes that read pictures.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
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

from fbnetv3.detection.annotations import check_file
from fbnetv3.errors import InputError
from fbnetv3.training.process_rank import Share

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # a picture and its boxes, as detectron2 describes them
PREFIX = "coco:"


def data_name(annotations: str | Path, images: str | Path) -> str:
    """The name of a data set of these files."""
    return f"{PREFIX}{Path(annotations).resolve()}:{Path(images).resolve()}"


def coco_names(root: str | Path, splits: Sequence[str] = ("train2017", "val2017")) -> list[str]:
    """The names of COCO 2017's splits in a folder of COCO's layout.

    Raises:
        InputError: the folder has not that layout.
    """
    root = Path(root).expanduser()
    names = []
    for split in splits:
        file, images = root / "annotations" / f"instances_{split}.json", root / split
        if not file.is_file() or not images.is_dir():
            raise InputError(
                f"{root} has not COCO's layout: it needs annotations/instances_{split}.json and the folder {split}; for other "
                "data give --train, --val and --images"
            )
        names.append(data_name(file, images))
    return names


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
        check_file(Path(about.json_file), Path(about.image_root))
        with _refused(name), redirect_stdout(StringIO()):  # pycocotools prints
            return load_coco_json(about.json_file, about.image_root, name)  # type: ignore[no-any-return]
    with _refused(name):
        return list(DatasetCatalog.get(name))


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """detectron2's readers check with asserts and whatever a file provokes."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).split())[:160]
        raise InputError(f"{_short(name)} is refused by detectron2 ({words}); repair it, or give other data") from error


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

    A picture that cannot be read is a warning and missing from its batch; where none of them can, the next one of the data
    set that can is the batch, which is empty if `TRIES` cannot.

    Raises:
        InputError: fewer pictures than a batch has, or a batch that the processes cannot share.
    """

    TRIES = 100

    def __init__(
        self, records: Sequence[Record], mapper: DatasetMapper, batch: int, seed: int, steps: int, share: Share
    ) -> None:
        if len(records) < batch:
            raise InputError(f"{len(records)} pictures are fewer than a batch of {batch}: lower SOLVER.IMS_PER_BATCH")
        share.local(batch)
        self.records, self.mapper = records, mapper
        self.batch, self.seed, self.steps, self.share = batch, seed, steps, share
        self.landscape = np.array([record["width"] > record["height"] for record in records])
        self.per_epoch = len(records) // batch
        self._epoch = functools.lru_cache(maxsize=1)(self._draw)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[Record]:
        chosen = self.indices(step)
        mine = [int(chosen[i]) for i in self.share.of(self.batch)]
        batch = [record for i in mine if (record := self._read(i, step)) is not None]
        others = ((mine[0] + i) % len(self.records) for i in range(1, min(self.TRIES, len(self.records))))
        while not batch and (other := next(others, None)) is not None:
            batch = [record for record in [self._read(other, step)] if record is not None]
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


def read_steps(steps: Steps, start: int, workers: int) -> Iterator[list[Record]]:
    """The steps from `start` on, read ahead by `workers` processes.

    Raises:
        InputError: nothing can be read.
    """
    order, own = range(start, len(steps)), torch.Generator().manual_seed(steps.seed)
    # A generator of its own: else it draws from torch's within the first step, which then samples other boxes if resumed.
    for batch in torch.utils.data.DataLoader(
        steps, batch_size=None, sampler=order, num_workers=workers, collate_fn=_as_it_is, generator=own
    ):
        if not batch:  # raised here, since a worker's error comes with its traceback
            raise InputError("the pictures to train on cannot be read; repair or drop those that were named")
        yield batch


def test_loader(
    records: Sequence[Record], mapper: DatasetMapper, workers: int
) -> torch.utils.data.DataLoader[list[Record]]:
    """Every picture once, this process's part, one at a time; the list is empty where one cannot be read."""
    return torch.utils.data.DataLoader(
        _Pictures(records, mapper),
        batch_size=None,
        sampler=InferenceSampler(len(records)),
        num_workers=workers,
        collate_fn=_as_it_is,
    )


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
