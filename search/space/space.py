"""What every search space is: coordinates, index rows, and the questions that a search asks a space.

A candidate is a row of indices, one for each coordinate; a coordinate is a list of values. Sampling, costs, encoding and
evolution work on matrices of such index rows. Only a training needs the `Arch` and the `Recipe`.

There are two kinds of spaces: `NetworkSpace` (network_space.py), whose candidates are networks that can be trained, and
`TableSpace` (table.py), whose candidates were all trained before.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fbnetv3.complexity import Cost
from fbnetv3.errors import InputError
from fbnetv3.search.trial import Candidate, Evaluator
from fbnetv3.training.recipe import Recipe

IntMatrix = npt.NDArray[np.int64]
IntVector = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Entry = str | int  # a fixed value, or the name of a coordinate
Score = Callable[[IntMatrix], Floats]  # of index rows [n, d]: scores [n], higher is better


@dataclass(frozen=True)
class Coordinate:
    """One searched choice.

    Attributes:
        values: of an ordered coordinate in ascending order. Widths are as built, so they may repeat after rounding.
        ordered: True for a range, which is encoded min-max; False for a choice, which is encoded one-hot.
        arch: True if it belongs to the architecture, False if it belongs to the recipe.
        nominal: the values as the file has them, that is widths before rounding.
        log: True for a range of positive numbers whose logarithms are encoded, such as learning rates from 1e-5 to 1.
    """

    name: str
    values: tuple[Any, ...]
    ordered: bool
    arch: bool
    nominal: tuple[Any, ...]
    log: bool = False

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The values as an array, to be indexed with a column of index rows."""
        return np.array(self.values)

    @cached_property
    def first(self) -> IntVector:
        """For every index, the smallest index that has the same value."""
        return np.array([self.values.index(value) for value in self.values])

    def only(self, i: int) -> Coordinate:
        """Return the coordinate with the value of index `i` alone."""
        return dataclasses.replace(self, values=(self.values[i],), nominal=(self.nominal[i],))


@dataclass(frozen=True)
class SearchSpace(ABC):
    """All pairs of an architecture and a recipe that a search may propose (Omega in the paper)."""

    name: str
    about: str
    in_chans: int
    num_classes: int
    coordinates: tuple[Coordinate, ...]

    # Whether candidates are networks that can be trained. Otherwise their accuracies are known: see `evaluator`.
    trainable: ClassVar[bool]
    held_out = False  # see `TableSpace`

    @abstractmethod
    def candidate(self, row: Sequence[int], base: Recipe, name: str) -> Candidate:
        """Return the candidate of one index row.

        Args:
            base: recipe that gives the values which are not searched.
            name: name of the architecture.
        """

    @abstractmethod
    def cost(self, index: IntMatrix) -> Cost:
        """Return the costs of index rows [n, d]; the fields of `Cost` are integer arrays [n]."""

    @abstractmethod
    def figure(self, metric: str, convention: str, index: IntMatrix) -> IntVector:
        """Return one figure, `flops` or `params`, of index rows [n, d], without computing the rest of their cost."""

    @abstractmethod
    def statistics(self, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        """Return the free statistics of index rows [n, d]: the names of k statistics and their values [n, k].

        They are the labels of the proxy task (section 3.2).
        """

    @abstractmethod
    def base_recipe(self, name: str) -> Recipe:
        """Return the recipe that candidates start from. `name` is the one that the search's configuration gives."""

    @property
    @abstractmethod
    def resolutions(self) -> tuple[int, ...]:
        """Sides in pixels of the square images that the networks of this space take."""

    def evaluator(self) -> Evaluator:
        """Return the evaluator that looks accuracies up.

        Raises:
            InputError: the accuracies are not known; the candidates have to be trained.
        """
        raise InputError(f"the accuracies of space {self.name} are not known: its candidates have to be trained")

    def known(self) -> IntMatrix:
        """Return the index rows whose accuracies are known.

        Raises:
            InputError: the accuracies are not known; the candidates have to be trained.
        """
        raise InputError(f"the accuracies of space {self.name} are not known: its candidates have to be trained")

    def accuracy(self, index: IntMatrix) -> Floats:
        """Return the known accuracy of index rows in percent, the mean over all trainings of a candidate [n].

        Raises:
            InputError: the accuracies are not known; the candidates have to be trained.
        """
        raise InputError(f"the accuracies of space {self.name} are not known: its candidates have to be trained")

    def judge(self, seen: Iterable[tuple[Sequence[int], int]]) -> Score:
        """Return what gives the known accuracies [n] of index rows that a search is judged by.

        Args:
            seen: candidate (an index row) and seed of every training that the search saw. See `TableSpace.held_out`.
        """
        return self.accuracy

    def subspace(self, row: Sequence[int], free: Booleans) -> SearchSpace:
        """Return the candidates that equal an index row [d] in all coordinates but the free ones [d].

        A fixed coordinate has one value left, and a free one keeps all of its values. So `np.where(free, index, row)` makes
        index rows of the new space those of this one.

        Raises:
            InputError: the accuracies are not known. The rows of a space of networks share values, which cannot be fixed alone.
        """
        raise InputError(f"space {self.name} is no table: its coordinates cannot be fixed one by one")

    @property
    def listed(self) -> IntMatrix | None:
        """All candidates as index rows, where not every combination of values is one; None where every one is."""
        return None

    def contains(self, index: IntMatrix) -> Booleans:
        """Tell which index rows are candidates of the space."""
        return np.ones(len(index), bool)

    @cached_property
    def sizes(self) -> IntVector:
        """Number of values of every coordinate [d]."""
        return np.array([len(c.values) for c in self.coordinates])

    @property
    def arch_size(self) -> int:
        """Number of architectures as written, that is before widths are rounded."""
        return math.prod(len(c.values) for c in self.coordinates if c.arch)

    @property
    def built_size(self) -> int:
        """Number of architectures as built: widths that round to the same value count once."""
        return math.prod(len(set(c.values)) for c in self.coordinates if c.arch)

    @property
    def recipe_size(self) -> int:
        """Number of recipes as written."""
        return math.prod(len(c.values) for c in self.coordinates if not c.arch)

    def columns(self, index: IntMatrix) -> dict[str, npt.NDArray[Any]]:
        """Return the values of index rows [n, d] by coordinate name; widths as built."""
        return {c.name: c.array[index[:, j]] for j, c in enumerate(self.coordinates)}

    def values(self, row: Sequence[int]) -> dict[str, Any]:
        """Return the values of one index row by coordinate name; widths as built.

        Raises:
            InputError: this is no index row of the space.
        """
        if len(row) != len(self.coordinates) or any(not 0 <= i < n for i, n in zip(row, self.sizes, strict=True)):
            raise InputError(f"space {self.name}: {list(row)} is no index row; sizes are {self.sizes.tolist()}")
        return {c.name: c.values[i] for c, i in zip(self.coordinates, row, strict=True)}

    def find(self, values: Mapping[str, Any]) -> list[int]:
        """Return the index row that has these values.

        Raises:
            InputError: the space has no such values.
        """
        if set(values) != {c.name for c in self.coordinates}:
            names = ", ".join(c.name for c in self.coordinates)
            raise InputError(
                f"space {self.name}: a candidate has values of {names}; given: {', '.join(values) or 'none'}"
            )
        wrong = [c for c in self.coordinates if values[c.name] not in c.values]
        if wrong:
            raise InputError(f"space {self.name} has no {wrong[0].name} of {values[wrong[0].name]!r}")
        return [c.values.index(values[c.name]) for c in self.coordinates]

    def canonical(self, index: IntMatrix) -> IntMatrix:
        """Return the rows with one index for each different value, so that equal candidates become equal rows.

        Several indices of a coordinate have the same value where written widths round to the same built width.
        """
        out: IntMatrix = index.copy()
        for j, coordinate in enumerate(self.coordinates):
            if len(set(coordinate.values)) < len(coordinate.values):
                out[:, j] = coordinate.first[index[:, j]]
        return out

    def distinct(self, index: IntMatrix) -> IntVector:
        """Return the positions, ascending, of the rows that equal no earlier row.

        Of `canonical` rows these are the different candidates.
        """
        # `np.unique(axis=0)` is many times slower. A row becomes a few whole numbers instead: its indices are the digits of
        # a number in a mixed-base system, and a new number starts where 63 bits do not suffice.
        words, room = [np.zeros(len(index), np.int64)], 2**63
        for column, size in zip(index.T, self.sizes.tolist(), strict=True):
            room //= size
            if not room:
                words.append(np.zeros(len(index), np.int64))
                room = 2**63 // size
            words[-1] = words[-1] * size + column
        order = np.lexsort(words)  # stable: of equal rows the earliest comes first
        new = np.ones(len(index), bool)
        new[1:] = np.any([word[order[1:]] != word[order[:-1]] for word in words], axis=0)
        first: IntVector = np.sort(order[new])
        return first
