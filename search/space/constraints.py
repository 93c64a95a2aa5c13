"""Resource constraints that hold together, g_i(A) <= C_i of equation (1), and index rows that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.sobol import MAX_DRAWS, draws, sample
from fbnetv3.search.space.space import IntMatrix, SearchSpace

Floats = npt.NDArray[np.float64]
DRAWS = 2**13  # random rows of one look at the space
LOOKS = 16  # at the most
HALVINGS = 6  # checks of a repair, with a halving between two


class Measured(Protocol):
    """A figure of index rows that no closed form gives, such as a latency, and the most that it may be."""

    @property
    def max(self) -> float:
        """The limit."""

    def value(self, index: IntMatrix) -> Floats:
        """The figure of every row [n]."""


@dataclass(frozen=True)
class Limits:
    """Hard constraints on the architectures of a space: a pair must keep all of them."""

    space: SearchSpace
    constraints: tuple[Constraint, ...] = ()
    measured: tuple[Measured, ...] = ()

    def excess(self, index: IntMatrix) -> Floats:
        """How far every row [n, d] is outside, in parts of the limits, summed over them; 0 inside all; from 1 for no pair."""
        total = np.where(self.space.holds(index), 0.0, 1.0)
        for constraint in self.constraints:
            value = constraint.values(self.space, index)
            total += np.maximum(value / constraint.max - 1.0, 0.0)
            total += np.maximum(constraint.min - value, 0.0) / max(constraint.min, 1.0)
        for limit in self.measured:
            total += np.maximum(limit.value(index) / limit.max - 1.0, 0.0)
        return total

    def allows(self, index: IntMatrix) -> npt.NDArray[np.bool_]:
        """Which rows keep all constraints."""
        return np.asarray(self.excess(index) == 0.0)

    def sample(self, n: int, seed: int) -> IntMatrix:
        """`n` different Sobol rows inside all constraints.

        Raises:
            InputError: `MAX_DRAWS` samples do not hold `n` such rows.
        """
        if len(self.constraints) == 1 and not self.measured:
            return sample(self.space, n, self.constraints[0], seed)
        rows = nearest = np.empty((0, len(self.space.sizes)), np.int64)
        least, count = np.inf, 0
        for drawn in draws(self.space, MAX_DRAWS, seed):
            count += len(drawn)
            excess = self.excess(drawn)
            if excess.min() < least:
                nearest, least = drawn[[excess.argmin()]], excess.min()
            rows = np.concatenate([rows, self.space.canonical(drawn[excess == 0.0])])
            rows = rows[self.space.distinct(rows)]
            if len(rows) >= n:
                return rows[:n]
        raise InputError(
            f"space {self.space.name}: only {len(rows)} of {count:,} samples are inside {self._words(nearest)}, "
            f"{n} are needed; give wider limits"
        )

    def repair(self, index: IntMatrix, anchors: IntMatrix, rng: np.random.Generator) -> IntMatrix:
        """Rows that keep the constraints: those outside take half of what parts their architecture from an anchor's.

        Args:
            anchors: a row inside for each row of `index`.

        Returns:
            At most as many rows; what is outside at the last of `HALVINGS` checks is left out.
        """
        inside, arch = [index[:0]], np.array([c.arch for c in self.space.coordinates])
        for _ in range(HALVINGS):
            allowed = self.allows(index)
            inside.append(index[allowed])
            index, anchors = index[~allowed], anchors[~allowed]
            if not len(index):
                break
            index = np.where((rng.random(index.shape) < 0.5) & arch, anchors, index)
        return np.concatenate(inside)

    def draw(self, n: int, rng: np.random.Generator) -> IntMatrix:
        """`n` random rows inside: uniform ones, and where these are rare, others mixed with them until they are inside.

        Raises:
            InputError: `LOOKS` looks, each mixing the best rows of the last, found none; the message says the nearest.
        """
        rows = random_rows(self.space, DRAWS, rng)
        for _ in range(LOOKS):
            excess = self.excess(rows)
            inside = rows[excess == 0.0]
            if len(inside):
                more = rows[excess > 0.0][: max(n - len(inside), 0)]
                mixed = self.repair(more, inside[rng.integers(len(inside), size=len(more))], rng)
                return np.concatenate([inside, mixed])[:n]
            # None inside: uniform crossover of those nearest to it, coordinates drawn anew here and there.
            near = rows[np.argsort(excess, kind="stable")[: DRAWS // 16]]
            mother, father = near[rng.integers(len(near), size=(2, DRAWS))]
            rows = np.where(rng.random(mother.shape) < 0.5, mother, father)
            anew = rng.random(rows.shape) < 1.0 / rows.shape[1]
            rows = np.where(anew, random_rows(self.space, DRAWS, rng), rows)
        raise InputError(f"space {self.space.name}: nothing found inside {self._words(near[:1])}; give wider limits")

    def _words(self, nearest: IntMatrix) -> str:
        """The limits, with the figures of the nearest row [1, d]."""
        words = []
        for c in self.constraints:
            has = int(c.values(self.space, nearest)[0])
            words.append(f"{c.metric} ({c.convention} convention) {c.min:,g} to {c.max:,g} (the nearest has {has:,})")
        for limit in self.measured:
            words.append(f"at most {limit.max:g} ms (the nearest has {limit.value(nearest)[0]:.4g})")
        return " and ".join(words)


def random_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> IntMatrix:
    """`n` index rows, every value of a coordinate equally likely, or every row of a table with some combinations of them."""
    if space.listed is not None:
        return space.listed[rng.integers(len(space.listed), size=n)]
    return space.canonical(rng.integers(space.sizes, size=(n, len(space.sizes))))


def as_limits(space: SearchSpace, limits: Constraint | Sequence[Constraint] | Limits) -> Limits:
    """One constraint, several, or what they have been made into."""
    if isinstance(limits, Limits):
        return limits
    return Limits(space, (limits,) if isinstance(limits, Constraint) else tuple(limits))
