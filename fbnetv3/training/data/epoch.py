"""What is random in an epoch of a training: everything comes from the training's seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fbnetv3.training.data.protocol import Batch, Data
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.recipe import Recipe


class Epoch(NamedTuple):
    """What is random in an epoch.

    Attributes:
        batches: the batches of this process, shuffled and augmented.
        rng: draws the weight of mixup, once for every batch.
        torch_seed: seed of torch's generators, which dropout and stochastic depth draw from.
    """

    batches: Iterator[Batch]
    rng: np.random.Generator
    torch_seed: int


def draw_epoch(
    data: Data, recipe: Recipe, seed: int, epoch: int, process: ProcessRank | None = None, start: int = 0
) -> Epoch:
    """Return an epoch of a training as `fit` sees it, so that any loop can train to the same bits.

    Args:
        seed: of the training.
        epoch: number of the epoch, from 0.
        process: this process among those that train together; None if it works alone.
        start: the first batch, counted from 0.
    """
    process = process or ProcessRank()
    rng = np.random.default_rng([seed, epoch])
    # A batch that is larger than the set is the whole set.
    batch = min(recipe.batch_size, data.count("train"))
    batches = data.epoch(recipe.augmentation, batch, rng, process, start)
    # The processes see different images, so their dropout masks must differ too.
    return Epoch(batches, rng, int(rng.integers(2**62)) + process.rank)
