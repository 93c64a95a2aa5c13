"""Known accuracies to try a search on: a made-up accuracy over any space, and small spaces that can be enumerated."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import Coordinate, Floats, IntMatrix, SearchSpace

SEED = 0


class Oracle:
    """A made-up accuracy in percent of every candidate of a space. It is fixed by its seed and not fitted to real trainings.

    The accuracy saturates in FLOPs and parameters, and larger networks want more regularisation, as section 5 of the paper
    observes. Every value of a coordinate has its effect, and a random network of one hidden layer over all columns makes them
    interact.
    """

    def __init__(self, space: SearchSpace, hidden: int = 64) -> None:
        rng = np.random.default_rng(SEED)
        self.middle = space.cost(space.sizes[None] // 2)
        columns = encode(space, np.zeros((1, len(space.sizes)), np.int64)).shape[1]
        self.space = space
        names = ("dropout", "stochastic_depth", "mixup")
        # A space may leave out some of the three. Only those that it searches count.
        self.tops = {c.name: max(c.values) for c in space.coordinates if c.name in names}
        self.linear = rng.normal(size=columns) * 0.06
        self.first = rng.normal(size=(columns, hidden)) * 2.0 / columns**0.5
        self.bias = rng.normal(size=hidden) * 0.5
        self.second = rng.normal(size=hidden) * 0.08

    def __call__(self, index: IntMatrix) -> Floats:
        """Return the accuracies [n] of index rows [n, d]."""
        x = 2.0 * encode(self.space, index).astype(float) - 1.0
        costs, columns = self.space.cost(index), self.space.columns(index)
        # The constants below were chosen for FLOPs in 100M and parameters in 1M of the released space, whose middle network has
        # 6 and 11 of these units. Relative to the middle, they suit a space of any size.
        flops = 6.0 * costs.flops() / self.middle.flops()
        params = 11.0 * costs.params() / self.middle.params()
        rates = [columns[name] / top for name, top in self.tops.items()]
        wanted = np.clip((params - 6.0) / 10.0, 0.0, 1.0)
        smooth = 85.0 - 13.0 * flops**-0.6 - 1.2 * np.exp(-params / 4.0) - 2.0 * (np.mean(rates, axis=0) - wanted) ** 2
        total: Floats = smooth + x @ self.linear + np.tanh(x @ self.first + self.bias) @ self.second
        return total


def restricted(space: SearchSpace, free: Collection[str]) -> SearchSpace:
    """Return the space in which only the `free` coordinates vary. The others have the value in the middle of their list."""

    def fixed(c: Coordinate) -> Coordinate:
        middle = slice(len(c.values) // 2, len(c.values) // 2 + 1)
        return dataclasses.replace(c, values=c.values[middle], nominal=c.nominal[middle])

    coordinates = tuple(c if c.name in free else fixed(c) for c in space.coordinates)
    return dataclasses.replace(space, coordinates=coordinates)


def everything(space: SearchSpace) -> IntMatrix:
    """Return all different index rows of a small space."""
    # Several written rows may be one network after rounding. `canonical` makes them equal, and `unique` keeps one.
    grid = np.indices(space.sizes.tolist()).reshape(len(space.sizes), -1).T
    return np.unique(space.canonical(grid), axis=0)
