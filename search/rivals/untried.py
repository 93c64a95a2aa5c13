"""The candidates that a rival has not proposed yet, and whether a table has enough of them side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.evolve import one_change
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Booleans, IntMatrix, IntVector, SearchSpace

WALKS = 200  # at most, from one row to a new candidate
DRAWN = 2048  # random candidates, where no walk finds one
FEWEST_NEIGHBOURS = 0.1  # share of the changes of one coordinate that must lead to another row of a table
LOOKED_AT = 200  # rows of a table whose neighbours are counted


class Untried:
    """The feasible candidates that were not taken yet.

    Args:
        rng: draws among equally near candidates.
    """

    def __init__(self, constraints: ConstraintSet, rng: np.random.Generator) -> None:
        self.constraints, self.rng = constraints, rng
        self._taken: set[tuple[int, ...]] = set()

    def take(self, row: Sequence[int]) -> None:
        """Count an index row as tried."""
        self._taken.add(tuple(row))

    def has(self, row: Sequence[int]) -> bool:
        """Tell whether an index row is feasible and was not taken."""
        return bool(self.have(np.array([row]))[0])

    def have(self, rows: IntMatrix) -> Booleans:
        """Tell of every index row [n, d] whether it is feasible and was not taken."""
        new = np.array([tuple(row) not in self._taken for row in rows.tolist()], bool)
        return np.asarray(new & self.constraints.satisfied(rows))

    def among(self, rows: IntMatrix) -> IntMatrix:
        """Return those of many index rows [n, d] that are feasible and were not taken, each once and in ascending order."""
        return np.unique(rows[self.have(rows)], axis=0)

    def near(self, row: Sequence[int]) -> list[int]:
        """Return an untried candidate that differs from an index row in one coordinate.

        The coordinate is drawn first and its value second, so that coordinates with many values do not change more often. If
        there is none, random changes of one coordinate lead away from the row, until one is found. If that fails, because the
        constraints are tight and the row is far outside, it is the nearest of many random candidates.

        Raises:
            InputError: none was found.
        """
        for _ in range(WALKS):
            place = np.array(row)
            for _ in row:
                neighbours = changed(self.constraints.space, place)
                fitting = self.among(neighbours)
                if len(fitting):
                    coordinates = (fitting != place).argmax(axis=1)
                    chosen = fitting[coordinates == self.rng.choice(np.unique(coordinates))]
                    found: list[int] = chosen[self.rng.integers(len(chosen))].tolist()
                    return found
                place = neighbours[self.rng.integers(len(neighbours))]
        drawn = self.among(self.constraints.draw(DRAWN, self.rng))
        if len(drawn):
            nearest: list[int] = drawn[(drawn != row).sum(axis=1).argmin()].tolist()
            return nearest
        raise InputError(
            f"no new feasible candidate was found in {WALKS} random walks; give fewer trainings or wider constraints"
        )


def cannot_propose(space: SearchSpace) -> str:
    """Return why methods that change candidates cannot search a space, or nothing if they can.

    A table need not have all combinations of values. Where a changed candidate is hardly ever in it, such a method could only
    fall back to random rows.
    """
    if space.listed is None:
        return ""
    share = _neighbours(space, space.listed)
    if share >= FEWEST_NEIGHBOURS:
        return ""
    return (
        f"the table has {share:.1%} of the pairs that differ from its rows in one coordinate, and at least "
        f"{FEWEST_NEIGHBOURS:.0%} are needed to propose changed ones"
    )


def _neighbours(space: SearchSpace, rows: IntMatrix) -> float:
    """Return which share of the changes of one coordinate leads from rows of a table to other rows of it."""
    if len(rows) > LOOKED_AT:
        rows = rows[np.random.default_rng(0).choice(len(rows), LOOKED_AT, replace=False)]
    there = [int(space.contains(changed(space, row)).sum()) for row in rows]
    return sum(there) / max(int((space.sizes - 1).sum()) * len(rows), 1)


def changed(space: SearchSpace, row: IntVector) -> IntMatrix:
    """Return all index rows that differ from `row` [d] in exactly one coordinate."""
    rows = one_change(space, row)
    return np.asarray(rows[(rows != row).any(axis=1)])
