"""One bar for a whole search. Its unit is a training; a final training counts as many as it is longer than the base recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fbnetv3.progress import Report, part_of
from fbnetv3.search.nars.config import SearchConfig


@dataclass(frozen=True)
class SearchBar:
    """Gives each part of a search the function that it reports its progress to.

    Attributes:
        methods: those that search, in order.
    """

    progress: Report
    config: SearchConfig
    methods: Sequence[str]

    @property
    def total(self) -> int:
        """What the whole search counts."""
        return len(self.methods) * (self.config.trainings + self._final) + self._confirmations

    def trials(self, method: str) -> Report:
        """Return the function for the trials of a method."""
        return part_of(self.progress, self._before(method), self.config.trainings, self.total)

    def final(self, method: str) -> Report:
        """Return the function for the final training of a method."""
        return part_of(self.progress, self._before(method) + self.config.trainings, self._final, self.total)

    def confirmations(self) -> Report:
        """Return the function for the final trainings with other seeds."""
        return part_of(self.progress, self.total - self._confirmations, self._confirmations, self.total)

    def _before(self, method: str) -> int:
        return self.methods.index(method) * (self.config.trainings + self._final)

    @property
    def _final(self) -> int:
        return max(1, round(self.config.final_stretch)) if self.config.final_training else 0

    @property
    def _confirmations(self) -> int:
        # The answers are those of all methods, and NARS's network with the base recipe.
        return self._final * (self.config.confirm - 1) * (len(self.methods) + 1)
