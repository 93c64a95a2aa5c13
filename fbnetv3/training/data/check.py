"""Reading every image of a set once, so that damaged ones are known before a training meets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbnetv3.progress import Report, silent
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.data.readers import EVAL_BATCH, ReaderData, read_batches
from fbnetv3.training.process_rank import ProcessRank

ALONE = ProcessRank()


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be read: its split, index and name there, and the reason, which says where it is."""

    split: str
    index: int
    name: str
    reason: str


def find_bad_images(data: Data, report: Report = silent, process: ProcessRank = ALONE) -> list[BadImage]:
    """Return the images that cannot be read, by split and in the order of the set.

    Images in memory were read when the data were loaded; none is bad.

    Args:
        report: called with the images that are done, and with those of all splits.
        process: this process, which reads its part of the images.
    """
    if not isinstance(data, ReaderData):
        return []
    bad, done, total = BadImages("skip", told=False), 0, sum(map(data.count, data.splits))
    for split, images in data.splits.items():
        mine = np.array(process.indices(len(images.labels)), dtype=np.int64)
        rows = [mine[i : i + EVAL_BATCH] for i in range(0, len(mine), EVAL_BATCH)]
        for _, found in read_batches(images, rows, _nothing, data.workers, bad, split=split):
            done += len(found) * process.world_size
            report(min(done, total), total, f"reading the images of {split}")
    return [
        BadImage(split, index, data.splits[split].name(index), reason)
        for split, met in bad.met.items()
        for index, reason in sorted(met.items())
    ]


def _nothing(image: Any, index: int) -> Tensor:
    """Return no pixels: that an image could be read is all that matters here."""
    return torch.empty(0)
