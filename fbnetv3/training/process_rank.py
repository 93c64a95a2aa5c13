"""Which part of the work this process does, when several processes train one network together."""

from __future__ import annotations

from dataclasses import dataclass

from fbnetv3.errors import InputError


@dataclass(frozen=True)
class ProcessRank:
    """The rank of this process, from 0, among `world_size` processes. A process that works alone is rank 0 of 1."""

    rank: int = 0
    world_size: int = 1

    def local_batch(self, batch_size: int) -> int:
        """Return how many images of a global batch of `batch_size` this process handles.

        Raises:
            InputError: the batch cannot be divided into equal parts. Unequal parts would weight the images differently,
                because gradients are averaged over the processes.
        """
        if batch_size % self.world_size:
            raise InputError(
                f"a batch of {batch_size} cannot be divided evenly among {self.world_size} processes; "
                f"give a multiple of {self.world_size}"
            )
        return batch_size // self.world_size

    def indices(self, count: int) -> range:
        """Return which of `count` items this process handles. Every item is handled by exactly one process.

        The parts may differ by one item, so `count` need not be a multiple of the number of processes.
        """
        return range(self.rank, count, self.world_size)
