"""Spaces whose candidates are networks: the grammar of Table 2, read from a YAML file by `reader.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy.typing as npt

from fbnetv3.arch import Arch
from fbnetv3.complexity import Cost
from fbnetv3.errors import InputError
from fbnetv3.recipes import load_recipe
from fbnetv3.search.space.costs import CostTables, cost_tables
from fbnetv3.search.space.layout import Layout
from fbnetv3.search.space.space import Entry, IntMatrix, IntVector, SearchSpace
from fbnetv3.search.trial import Candidate
from fbnetv3.training.recipe import Recipe


@dataclass(frozen=True)
class NetworkSpace(SearchSpace):
    """A space of networks that can be trained.

    Attributes:
        sgd_lr_factor: the searched learning rate is multiplied by it if the optimizer is SGD (Table 2, caption).
        fixed: recipe fields that have the same value in every candidate.
    """

    layout: Layout
    sgd_lr_factor: float = 1.0
    fixed: tuple[tuple[str, Any], ...] = ()

    trainable: ClassVar[bool] = True

    def arch(self, row: Sequence[int], name: str) -> Arch:
        """Return the architecture of one index row."""
        values = self.values(row)

        def get(entry: Entry) -> int:
            return int(values[entry]) if isinstance(entry, str) else entry

        return self.layout.arch(get, name)

    def recipe(self, row: Sequence[int], base: Recipe) -> Recipe:
        """Return `base` with the values that the space fixes and those of one index row."""
        values = self.values(row)
        changes = dict(self.fixed) | {c.name: values[c.name] for c in self.coordinates if not c.arch}
        if changes.get("optimizer", base.optimizer) == "sgd" and "lr" in changes:
            changes["lr"] *= self.sgd_lr_factor
        return base.replace(**changes)

    def candidate(self, row: Sequence[int], base: Recipe, name: str) -> Candidate:
        """Return the architecture and the recipe of one index row."""
        return Candidate(self.arch(row, name), self.recipe(row, base), self.values(row))

    def cost(self, index: IntMatrix) -> Cost:
        """Return exact costs, equal to `fbnetv3.complexity.cost` of each `Arch`."""
        return self._costs.cost(index)

    def figure(self, metric: str, convention: str, index: IntMatrix) -> IntVector:
        """Return `flops` or `params` of index rows in the given convention."""
        return self._costs.figure(metric, convention, index)

    def statistics(self, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        """Return exact statistics as integers, see `CostTables.statistics`."""
        return self._costs.statistics(index)

    def base_recipe(self, name: str) -> Recipe:
        """Return the recipe of that name, or of the YAML file at that path."""
        return load_recipe(name)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the images in pixels."""
        entry = self.layout.resolution
        return (entry,) if isinstance(entry, int) else next(c.values for c in self.coordinates if c.name == entry)

    @cached_property
    def _costs(self) -> CostTables:
        return cost_tables(self.name, self.layout, self.coordinates, self.in_chans, self.num_classes)


def as_networks(space: SearchSpace) -> NetworkSpace:
    """Return a space as a space of networks, for what only networks have, such as latencies.

    Raises:
        InputError: the space is a table.
    """
    if not isinstance(space, NetworkSpace):
        raise InputError(f"{space.name} is a table, whose candidates are no networks; give a space of networks")
    return space
