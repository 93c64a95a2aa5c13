"""What a rival of NARS is: it is asked for candidates, and told what their trainings gave."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.rivals.untried import Untried, cannot_propose
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.space import Floats, IntMatrix

Row = tuple[int, ...]


class Rival(Protocol):
    """Proposes candidates. What it proposes depends on its seed, and on what it was asked for and told, in that order."""

    def ask(self, n: int) -> IntMatrix:
        """Return `n` feasible index rows [n, d] that differ from each other and from all that it returned before.

        The results of earlier ones may be missing: they are training now.

        Raises:
            InputError: there are fewer such candidates left.
        """

    def tell(self, rows: IntMatrix, accuracies: Floats) -> None:
        """Take the results of candidates, in any order.

        Args:
            rows: index rows [n, d] that `ask` returned.
            accuracies: in percent [n]; nan where the training failed, which says nothing about the candidate.
        """


class Guided(ABC):
    """A rival that learns from results. It begins with random candidates, like NARS: the first of a Sobol sample.

    Attributes:
        untried: the feasible candidates that it has not proposed.
        startup: how many random candidates it begins with. It goes on with random ones until it is told a first result.

    Raises:
        InputError: the space is a table in which it cannot propose, see `cannot_propose`.
    """

    def __init__(self, constraints: ConstraintSet, seed: int, startup: int) -> None:
        if reason := cannot_propose(constraints.space):
            raise InputError(f"space {constraints.space.name}: {reason}; search it with nars or random")
        self.constraints, self.seed, self.startup = constraints, seed, startup
        self.untried = Untried(constraints, np.random.default_rng(seed))
        self._pending: set[Row] = set()
        self._random, self._told = 0, False

    def ask(self, n: int) -> IntMatrix:
        """Return new candidates; see `Rival.ask`."""
        drawn = n if not self._told else min(n, max(self.startup - self._random, 0))
        rows: list[list[int]] = self.constraints.sample(self._random + drawn, self.seed)[self._random :].tolist()
        self._random += drawn
        for row in rows:
            self.untried.take(row)
            self._begin(row)
        for _ in range(n - drawn):
            rows.append(self._propose())
            self.untried.take(rows[-1])
        self._pending |= set(map(tuple, rows))
        return np.array(rows)

    def tell(self, rows: IntMatrix, accuracies: Floats) -> None:
        """Take results; see `Rival.tell`.

        Raises:
            ValueError: a candidate was not asked for, or its result was told before.
        """
        for row, accuracy in zip(rows.tolist(), accuracies.tolist(), strict=True):
            if tuple(row) not in self._pending:
                raise ValueError(f"{row} is no candidate whose result is missing; tell each that `ask` returned once")
            self._pending.remove(tuple(row))
            self._told = self._told or accuracy == accuracy
            self._learn(tuple(row), accuracy)

    @abstractmethod
    def _begin(self, row: list[int]) -> None:
        """Note a random candidate, which trains from now on."""

    @abstractmethod
    def _propose(self) -> list[int]:
        """Return a feasible index row that is new. It trains from now on."""

    @abstractmethod
    def _learn(self, row: Row, accuracy: float) -> None:
        """Take the result of a candidate; nan if the training failed."""
