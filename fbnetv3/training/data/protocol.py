"""What a training sees of its images, wherever they are kept: memory, folders, or somebody else's data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch import Tensor

from fbnetv3.errors import InputError
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

SPLITS = ("train", "val", "test")
Batch = tuple[Tensor, Tensor]  # inputs float32 [n, c, h, w], labels int64 [n]


class Data(Protocol):
    """Labelled images to train on and to measure on, in splits: `train`, and at least one of `val` and `test`."""

    @property
    def name(self) -> str:
        """Identifies the images of all splits and their sizes. `training_images` says what a training depends on."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: label k is class k."""
        ...

    @property
    def transforms(self) -> Transforms:
        """The preprocessing that `batches` applies."""
        ...

    def count(self, split: str) -> int:
        """Return the number of images of a split.

        Raises:
            InputError: there is no such split.
        """
        ...

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, shuffled and augmented. Yield this process's part of every full batch.

        Everything random is drawn from `rng` before this method returns. How much is drawn does not depend on `process` and
        `start`, so the same `rng` gives the same pass on any number of processes and after resuming.

        Args:
            batch_size: images of a batch over all processes, at most `count("train")`.
            start: the first batch to yield, counted from 0.
        """
        ...

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, in order and not augmented.

        All processes together yield every image exactly once.
        """
        ...


def search_images(data: Data) -> str:
    """Return what identifies the images that the trials of a search depend on: those of `train` and `val`.

    Data without a `search_name` is identified by its name.
    """
    return getattr(data, "search_name", "") or data.name


def training_images(data: Data) -> str:
    """Return what identifies the images that the weights of a training depend on: not those of `val` and `test`.

    Data without a `train_name` is identified by its name.
    """
    return getattr(data, "train_name", "") or data.name


def class_counts(data: Data) -> list[int]:
    """Return the number of training images of every class.

    Raises:
        InputError: custom data without a method `class_counts`.
    """
    counts = getattr(data, "class_counts", None)
    if counts is None:
        raise InputError(
            f"class_weights needs the number of images of every class, and {data.name} does not tell it; give the data a "
            "method class_counts, or set class_weights to none"
        )
    return list(counts())
