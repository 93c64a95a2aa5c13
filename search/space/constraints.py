"""Resource constraints g_i(A) <= C_i of equation (1), and index rows that satisfy them."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT
from fbnetv3.search.space.sobol import draws
from fbnetv3.search.space.space import Booleans, Floats, IntMatrix, IntVector, SearchSpace

MAX_DRAWS = 2**20  # Sobol rows that are looked at, at most, for a sample
DRAWS = 2**13  # random rows of one attempt of `draw`
ATTEMPTS = 16  # of `draw`, at most
HALVINGS = 6  # attempts of `repair`; each moves a row half of the remaining way


@dataclass(frozen=True, config=STRICT)
class Constraint:
    """A resource constraint g(A) <= C of equation (1). A `min` above 0 keeps a pool inside a window."""

    metric: Literal["flops", "params"]  # one multiply-add = 1 FLOP
    max: Annotated[float, Field(gt=0.0)]
    min: Annotated[float, Field(ge=0.0)] = 0.0
    convention: Literal["published", "fvcore"] = "published"

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"{self.metric} from {self.min:g} to {self.max:g} is empty; min must not exceed max")

    def values(self, space: SearchSpace, index: IntMatrix) -> IntVector:
        """Return the constrained figure of index rows [n, d]."""
        return space.figure(self.metric, self.convention, index)

    def satisfied(self, values: Floats | IntVector) -> Booleans:
        """Tell which of many figures are inside."""
        return np.asarray((values >= self.min) & (values <= self.max))


class MeasuredConstraint(Protocol):
    """A limit on a figure that has no closed form, such as the latency on a device."""

    @property
    def max(self) -> float:
        """The largest value that satisfies the constraint."""

    def values(self, index: IntMatrix) -> Floats:
        """Return the figure of index rows [n]."""


@plain_dataclass(frozen=True)
class ConstraintSet:
    """Hard constraints on the candidates of a space. A candidate is feasible if it satisfies all of them."""

    space: SearchSpace
    constraints: tuple[Constraint, ...] = ()
    measured: tuple[MeasuredConstraint, ...] = ()

    def satisfied(self, index: IntMatrix) -> Booleans:
        """Tell which index rows are feasible."""
        feasible = self.space.contains(index)
        for constraint in self.constraints:
            feasible = feasible & constraint.satisfied(constraint.values(self.space, index))
        for limit in self.measured:
            feasible = feasible & (limit.values(index) <= limit.max)
        return feasible

    def excess(self, index: IntMatrix) -> Floats:
        """Return how far index rows are from being feasible: 0 for feasible ones.

        It is the sum, over the constraints, of the excess relative to the limit. A row that is no candidate of the space has
        1 or more.
        """
        total = np.where(self.space.contains(index), 0.0, 1.0)
        for constraint in self.constraints:
            value = constraint.values(self.space, index)
            total += np.maximum(value / constraint.max - 1.0, 0.0)
            total += np.maximum(constraint.min - value, 0.0) / max(constraint.min, 1.0)
        for limit in self.measured:
            total += np.maximum(limit.values(index) / limit.max - 1.0, 0.0)
        return total

    def sample(self, n: int, seed: int) -> IntMatrix:
        """Return the first `n` different feasible rows of a Sobol sequence, in the order drawn.

        Raises:
            InputError: the first `MAX_DRAWS` rows hold fewer; the message says how many they hold, and the figures of the
                nearest infeasible row.
        """
        rows, fresh, drawn = np.empty((0, len(self.space.coordinates)), np.int64), list[IntMatrix](), 0
        for index in draws(self.space, MAX_DRAWS, seed):
            drawn += len(index)
            fresh.append(self.space.canonical(index[self.satisfied(index)]))
            # Finding the different rows costs more than drawing them, so it waits until there may be enough.
            if len(rows) + sum(map(len, fresh)) >= n:
                rows, fresh = np.concatenate([rows, *fresh]), []
                rows = rows[self.space.distinct(rows)]
                if len(rows) >= n:
                    return rows[:n]
        found, nearest = len(self.space.distinct(np.concatenate([rows, *fresh]))), self._nearest(seed)
        if not len(nearest):
            raise InputError(
                f"space {self.space.name}: only {found} of {drawn:,} samples are different candidates, all of them feasible, "
                f"{n} are needed; give a larger space, or ask for fewer"
            )
        raise InputError(
            f"space {self.space.name}: only {found} of {drawn:,} samples have {self._describe(nearest)}, {n} are needed; give "
            "wider constraints"
        )

    def repair(self, index: IntMatrix, anchors: IntMatrix, rng: np.random.Generator) -> IntMatrix:
        """Move infeasible rows towards feasible ones until they are feasible.

        Every architecture coordinate of an infeasible row is replaced by the anchor's with probability 1/2, again and again:
        about half of the difference remains each time.

        Args:
            anchors: a feasible row for each row of `index`.

        Returns:
            Feasible rows, at most as many as `index` has. Rows that are infeasible after `HALVINGS` checks are dropped.
        """
        feasible, arch = [index[:0]], np.array([c.arch for c in self.space.coordinates])
        for _ in range(HALVINGS):
            satisfied = self.satisfied(index)
            feasible.append(index[satisfied])
            index, anchors = index[~satisfied], anchors[~satisfied]
            if not len(index):
                break
            # The recipe has no cost, so its coordinates stay.
            index = np.where((rng.random(index.shape) < 0.5) & arch, anchors, index)
        return np.concatenate(feasible)

    def draw(self, n: int, rng: np.random.Generator) -> IntMatrix:
        """Return at most `n` random feasible rows, not necessarily different.

        They are uniform where the constraints are wide. Where feasible rows are rare, other rows are repaired towards the few
        that were found, and there are fewer than `n` if some cannot be repaired.

        Raises:
            InputError: no feasible row was found in `ATTEMPTS` attempts, each of which crosses the nearest rows of the one
                before; the message names the nearest row.
        """
        rows = random_rows(self.space, DRAWS, rng)
        for _ in range(ATTEMPTS):
            excess = self.excess(rows)
            feasible = rows[excess == 0.0]
            if len(feasible):
                others = rows[excess > 0.0][: max(n - len(feasible), 0)]
                repaired = self.repair(others, feasible[rng.integers(len(feasible), size=len(others))], rng)
                return np.concatenate([feasible, repaired])[:n]
            # Nothing feasible yet: uniform crossover of the nearest rows, with about one coordinate of each drawn again.
            near = rows[np.argsort(excess, kind="stable")[: DRAWS // 16]]
            mother, father = near[rng.integers(len(near), size=(2, DRAWS))]
            rows = np.where(rng.random(mother.shape) < 0.5, mother, father)
            again = rng.random(rows.shape) < 1.0 / rows.shape[1]
            rows = np.where(again, random_rows(self.space, DRAWS, rng), rows)
        raise InputError(
            f"space {self.space.name}: found no candidate with {self._describe(near[:1])}; give wider constraints"
        )

    def _nearest(self, seed: int) -> IntMatrix:
        """Return the infeasible sample that violates the constraints least, [1, d], or no row if all are feasible."""
        best, least = np.empty((0, len(self.space.coordinates)), np.int64), np.inf
        for index in draws(self.space, MAX_DRAWS, seed):
            excess = self.excess(index)
            # Feasible samples say nothing about how far the constraints would have to be widened.
            excess[excess == 0.0] = np.inf
            if excess.min() < least:
                best, least = index[[excess.argmin()]], excess.min()
        return best

    def _describe(self, nearest: IntMatrix) -> str:
        """Return the constraints in words, with the figures of the nearest row [1, d]."""
        words = []
        for c in self.constraints:
            value = int(c.values(self.space, nearest)[0])
            words.append(
                f"{c.metric} ({c.convention} convention) from {c.min:,g} to {c.max:,g} (the nearest other has {value:,})"
            )
        for limit in self.measured:
            words.append(
                f"a latency of at most {limit.max:g} ms (the nearest other has {limit.values(nearest)[0]:.4g} ms)"
            )
        return " and ".join(words)


def sample(space: SearchSpace, n: int, constraint: Constraint, seed: int) -> IntMatrix:
    """Return `n` different Sobol rows of a space that satisfy one constraint; see `ConstraintSet.sample`."""
    return ConstraintSet(space, (constraint,)).sample(n, seed)


def random_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> IntMatrix:
    """Return `n` random index rows in which every value of a coordinate is equally likely.

    Of a table that lacks some combinations of values, every row is equally likely.
    """
    if space.listed is not None:
        return space.listed[rng.integers(len(space.listed), size=n)]
    return space.canonical(rng.integers(space.sizes, size=(n, len(space.sizes))))
