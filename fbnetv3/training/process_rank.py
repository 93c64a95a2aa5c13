"""Which part of the work this process does, one of several that train together."""

from __future__ import annotations

from dataclasses import dataclass

from fbnetv3.errors import InputError


@dataclass(frozen=True)
class Share:
    """Process `rank` of `world`; alone it does everything."""

    rank: int = 0
    world: int = 1

    def local(self, batch_size: int) -> int:
        """Its images of a batch of all processes.

        Raises:
            InputError: the batch cannot be shared out evenly.
        """
        if batch_size % self.world:
            raise InputError(
                f"a batch of {batch_size} cannot be shared by {self.world} processes; give a multiple of it"
            )
        return batch_size // self.world

    def of(self, count: int) -> range:
        """Its items of `count`: every one belongs to exactly one process, also where they do not divide evenly."""
        return range(self.rank, count, self.world)
