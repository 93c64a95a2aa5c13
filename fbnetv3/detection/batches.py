"""Batches of a detector: every training batch is a function of (seed, step), and damaged images do not stop anything.

A stopped training therefore continues exactly where it stopped, whatever the number of worker processes that read images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data.samplers import InferenceSampler

from fbnetv3.detection.datasets import Record
from fbnetv3.errors import InputError
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.stop_signal import ignore_signals

logger = logging.getLogger(__name__)


def epoch_batches(landscape: np.ndarray, batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the batches of one pass over the images, in random order and each of one orientation if possible.

    Images of one orientation need little padding. The images that do not fill such a batch form mixed batches. The images
    that do not fill a mixed batch either are left out of this pass.

    Args:
        landscape: [n] bool, whether an image is wider than high.

    Returns:
        n // batch arrays of `batch` indices.
    """
    order = rng.permutation(len(landscape))
    groups = [order[landscape[order]], order[~landscape[order]]]
    full = [group[: len(group) // batch * batch] for group in groups]
    rest = np.concatenate([group[len(taken) :] for group, taken in zip(groups, full, strict=True)])
    indices = np.concatenate([*full, rest[: len(rest) // batch * batch]])
    batches = indices.reshape(-1, batch)
    # A second permutation: otherwise a pass would start with all landscape images and end with the mixed ones.
    return [batches[i] for i in rng.permutation(len(batches))]


class TrainingBatches(torch.utils.data.Dataset[list[Record]]):
    """The batches of a training: entry i holds the images of step i that this process handles.

    An image that cannot be read is missing from its batch, with a warning. If no image of the batch can be read, the batch is
    the next image of the data set that can be read. The batch is empty if the next `TRIES` images cannot be read either.

    Raises:
        InputError: fewer images than a batch has, or a batch that cannot be divided evenly among the processes.
    """

    TRIES = 100

    def __init__(
        self, records: Sequence[Record], mapper: DatasetMapper, batch: int, seed: int, steps: int, process: ProcessRank
    ) -> None:
        if len(records) < batch:
            raise InputError(f"{len(records)} images are fewer than a batch of {batch}: lower SOLVER.IMS_PER_BATCH")
        process.local_batch(batch)  # raises unless the batch divides evenly
        self.records, self.mapper = records, mapper
        self.batch, self.seed, self.steps, self.process = batch, seed, steps, process
        self.landscape = np.array([record["width"] > record["height"] for record in records])
        self.per_epoch = len(records) // batch
        # The batches of one epoch are drawn together, so the last epoch is kept: steps are read in order.
        self._epoch, self._batches = -1, list[np.ndarray]()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[Record]:
        batch = self.indices(step)
        mine = [int(batch[i]) for i in self.process.indices(self.batch)]
        found = [record for i in mine if (record := self._read(i, step)) is not None]
        substitutes = ((mine[0] + i) % len(self.records) for i in range(1, min(self.TRIES, len(self.records))))
        # Every process must have an image in every step: the other processes wait for its gradients.
        while not found and (index := next(substitutes, None)) is not None:
            found = [record for record in [self._read(index, step)] if record is not None]
        return found

    def indices(self, step: int) -> np.ndarray:
        """Return the indices of the images of a step, those of all processes together."""
        epoch = step // self.per_epoch
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._epoch, self._batches = epoch, epoch_batches(self.landscape, self.batch, rng)
        return self._batches[step % self.per_epoch]

    def _read(self, index: int, step: int) -> Record | None:
        with _seeded_numpy([self.seed, step, index]):
            return read_record(self.records[index], self.mapper)


def read_record(record: Record, mapper: DatasetMapper) -> Record | None:
    """Return an image prepared for the model, or None with a warning if it cannot be read."""
    try:
        prepared: Record = mapper(record)
    except Exception as error:  # Pillow has many error classes, detectron2 another one for a wrong size
        words = " ".join(str(error).split())[:160]
        logger.warning("%s is left out: it cannot be read (%s)", record["file_name"], words or type(error).__name__)
        return None
    return prepared


@contextmanager
def _seeded_numpy(seed: Sequence[int]) -> Iterator[None]:
    """Seed numpy's global generator, from which detectron2's augmentations draw, and restore its state at the end."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    try:
        yield
    finally:
        np.random.set_state(before)


def iterate_batches(batches: TrainingBatches, start: int, workers: int) -> Iterator[list[Record]]:
    """Yield the batches from step `start` on, which `workers` processes read ahead.

    Raises:
        InputError: no image can be read.
    """
    # The loader draws a seed for its workers from a generator. Without one of its own it would draw from torch's global
    # generator within the first step. A resumed training, which starts at another step, would then sample other boxes.
    generator = torch.Generator().manual_seed(batches.seed)
    steps = range(start, len(batches))
    for batch in torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_unchanged,
        generator=generator,
        worker_init_fn=ignore_signals,
    ):
        if not batch:  # raised here and not in `__getitem__`, because an error of a worker carries its traceback
            raise InputError("the images to train on cannot be read; repair or remove those that the warnings name")
        yield batch


def evaluation_loader(
    records: Sequence[Record], mapper: DatasetMapper, workers: int
) -> torch.utils.data.DataLoader[list[Record]]:
    """Return a loader of the images that this process evaluates, one by one; an unreadable image is an empty list."""
    return torch.utils.data.DataLoader(
        _EvaluationImages(records, mapper),
        batch_size=None,
        sampler=InferenceSampler(len(records)),
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=ignore_signals,
    )


class _EvaluationImages(torch.utils.data.Dataset[list[Record]]):
    """The images of an evaluation, each in a list of its own."""

    def __init__(self, records: Sequence[Record], mapper: DatasetMapper) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[Record]:
        record = read_record(self.records[index], self.mapper)
        return [] if record is None else [record]


def _unchanged(batch: list[Record]) -> list[Record]:
    """Return a batch as it is: torch's default would try to stack images of different sizes."""
    return batch
