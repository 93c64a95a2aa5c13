"""Tables of trainings as search spaces: every candidate was trained before, its costs and accuracies are looked up.

`table_file.py` reads them from text, `table_archive.py` from this package's own format.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fbnetv3.arch import Arch, Block
from fbnetv3.complexity import Cost
from fbnetv3.errors import InputError
from fbnetv3.search.space.space import Booleans, Floats, IntMatrix, IntVector, Score, SearchSpace
from fbnetv3.search.trial import Candidate, Evaluator, Outcome, Stop, until_stopped
from fbnetv3.training.recipe import Recipe

# A candidate needs an architecture, and a table has none.
_NO_NETWORK = Arch(
    "a row of a table: no network",
    32,
    Block("conv", 16, k=3, s=1),
    ((Block("ir", 16, k=3, e=1),),),
    Block("pool", 16, e=1),
)


@dataclass(frozen=True, eq=False)
class TableSpace(SearchSpace):
    """The candidates of a table: all combinations of the coordinates' values, or some of them.

    Attributes:
        table: index rows [n, d], each once.
        labels: statistics [n] by name; `flops` and `params` are among them.
        acc1: accuracies in percent [n, trainings, epochs]; nan where there is none.
        trainings: number of trainings of every row [n].
        held_out: a search is judged by the trainings that it did not see, where a candidate has some. Otherwise it is judged by
            all of them, which favours a candidate that was lucky in the training that was seen.
        test_acc1: accuracies on test images, of the same trainings as `acc1`; None if the table has none. A search sees `acc1`
            and is judged by these.
        seconds: wall time of every training [n, trainings]; None if the table does not say.
        seeds: of every training [n, trainings]; None if the table does not say.
        facts: what the table is (data, splits, metric, licence, ..), as texts by name.
    """

    table: IntMatrix
    labels: Mapping[str, Floats]
    acc1: Floats
    trainings: IntVector
    held_out: bool = False
    test_acc1: Floats | None = None
    seconds: Floats | None = None
    seeds: IntMatrix | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    trainable: ClassVar[bool] = False
    # Two tables are equal if they are the same object: comparing arrays would be slow, and equality is not needed.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def candidate(self, row: Sequence[int], base: Recipe, name: str) -> Candidate:
        """Return the values of one row, with the base recipe as it is and an architecture that only says what it is."""
        arch = dataclasses.replace(_NO_NETWORK, name=f"{name} (a row of table {self.name}: no network)")
        return Candidate(arch, base, self.values(row))

    def cost(self, index: IntMatrix) -> Cost:
        """Return the table's FLOPs as those of convolutions, and its parameters as their weights."""
        return Cost(conv=self.figure("flops", "", index), weights=self.figure("params", "", index))

    def figure(self, metric: str, convention: str, index: IntMatrix) -> IntVector:
        """Return `flops` or `params` of index rows; 0 where the table does not have the row.

        A table has one convention, so `convention` is ignored.
        """
        return self.label(metric, index).astype(np.int64)

    def statistics(self, index: IntMatrix) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        """Return the statistics that the table has, in its own units."""
        return tuple(self.labels), np.stack([self.label(name, index) for name in self.labels], axis=1)

    def label(self, name: str, index: IntMatrix) -> Floats:
        """Return one statistic of index rows [n]; 0 where the table does not have the row."""
        position, found = self._search(index)
        return np.where(found, self.labels[name][position], 0.0)

    def base_recipe(self, name: str) -> Recipe:
        """Return a recipe that only says how many epochs the table knows; `name` is ignored."""
        return Recipe("sgd", 0.1, epochs=self.acc1.shape[2], batch_size=2)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The side of the placeholder network's images."""
        return (_NO_NETWORK.resolution,)

    def evaluator(self) -> Evaluator:
        """Return the evaluator that looks accuracies up."""
        return TableEvaluator(self)

    def known(self) -> IntMatrix:
        """Return all rows of the table."""
        return self.table

    def accuracy(self, index: IntMatrix) -> Floats:
        """Return the mean accuracy of index rows over their trainings, each after its last epoch: on test images, if the table
        has these.

        A training that diverged counts as chance.
        """
        position = self.position(index)
        return self._mean(position, self.exists(position))

    def judge(self, seen: Iterable[tuple[Sequence[int], int]]) -> Score:
        """Return the function of `accuracy`; for a table with `held_out`, without the trainings that were seen.

        A candidate without another training is judged by all that it has.
        """
        if not self.held_out:
            return self.accuracy
        used = np.zeros(self.acc1.shape[:2], bool)
        for row, seed in seen:
            [position] = self.position(np.array([row]))
            used[position, self.choose(position, seed)] = True

        def others(index: IntMatrix) -> Floats:
            position = self.position(index)
            exists = self.exists(position)
            left = exists & ~used[position]
            return self._mean(position, np.where(left.any(axis=1, keepdims=True), left, exists))

        return others

    def choose(self, position: int, seed: int) -> int:
        """Return which training of the row at a position a seed sees."""
        return int(seed % self.trainings[position])

    @cached_property
    def final(self) -> Floats:
        """The accuracy of every training after its last epoch [n, trainings]: chance where it diverged, or is not there."""
        return self._last(self.acc1)

    @cached_property
    def judged(self) -> Floats:
        """The same of what a search is judged by: `test_acc1`, if the table has them."""
        return self.final if self.test_acc1 is None else self._last(self.test_acc1)

    def _last(self, acc1: Floats) -> Floats:
        last = np.full(acc1.shape[:2], np.nan)
        for epoch in range(acc1.shape[2]):
            last = np.where(np.isnan(acc1[:, :, epoch]), last, acc1[:, :, epoch])
        return np.where(np.isnan(last), 100.0 / self.num_classes, last)

    def noise(self, which: Booleans | None = None) -> float:
        """Return the std of a training of one candidate in points, pooled over candidates with several trainings.

        It is that of the accuracies that searches are judged by.

        Args:
            which: rows of the table [n] that are looked at; all by default.

        Returns:
            nan if none of them has several trainings.
        """
        rows = np.flatnonzero(self.trainings > 1 if which is None else which & (self.trainings > 1))
        if not len(rows):
            return math.nan
        return float(np.sqrt(np.mean(np.var(self.judged[rows], axis=1, ddof=1, where=self.exists(rows)))))

    def subspace(self, row: Sequence[int], free: Booleans) -> TableSpace:
        """Return the rows of the table that equal `row` in all coordinates but the free ones; see `SearchSpace.subspace`."""
        kept = (self.table == row)[:, ~free].all(axis=1)
        choices = zip(self.coordinates, row, free.tolist(), strict=True)
        return dataclasses.replace(
            self,
            coordinates=tuple(c if is_free else c.only(i) for c, i, is_free in choices),
            table=np.where(free, self.table[kept], 0),
            labels={name: values[kept] for name, values in self.labels.items()},
            acc1=self.acc1[kept],
            test_acc1=None if self.test_acc1 is None else self.test_acc1[kept],
            seconds=None if self.seconds is None else self.seconds[kept],
            seeds=None if self.seeds is None else self.seeds[kept],
            trainings=self.trainings[kept],
        )

    def exists(self, position: IntVector) -> Booleans:
        """Tell which trainings exist: rows have different numbers of them, and the array is as wide as the largest."""
        return np.asarray(np.arange(self.acc1.shape[1]) < self.trainings[position][:, None])

    def _mean(self, position: IntVector, which: Booleans) -> Floats:
        return np.asarray(np.mean(self.judged[position], axis=1, where=which))

    @property
    def listed(self) -> IntMatrix | None:
        """The table's rows, unless it has all combinations of values."""
        return None if len(self.table) == math.prod(self.sizes.tolist()) else self.table

    def contains(self, index: IntMatrix) -> Booleans:
        """Tell which index rows the table has."""
        return self._search(index)[1]

    def position(self, index: IntMatrix) -> IntVector:
        """Return the position in the table of every index row.

        Raises:
            InputError: the table does not have one of them.
        """
        position, found = self._search(index)
        if not found.all():
            row = index[np.flatnonzero(~found)[0]].tolist()
            raise InputError(f"table {self.name} has no {self.values(row)}; only its rows can be looked up")
        return position

    @cached_property
    def _keys(self) -> tuple[IntVector, IntVector, IntVector]:
        """Random factors that hash an index row, the sorted hashes of the table's rows, and the rows' positions."""
        factors = np.random.default_rng(0).integers(2**62, size=len(self.coordinates)) | 1
        keys = self.table @ factors
        order = np.argsort(keys)
        assert len(np.unique(keys)) == len(keys), "two rows share a 64-bit hash"
        return factors, keys[order], order

    def _search(self, index: IntMatrix) -> tuple[IntVector, Booleans]:
        """Return a position in the table for every index row, and whether the row is really there."""
        factors, keys, order = self._keys
        position = order[np.minimum(np.searchsorted(keys, index @ factors), len(keys) - 1)]
        return position, np.asarray((self.table[position] == index).all(axis=1))


@dataclass(frozen=True, eq=False)
class TableEvaluator:
    """Looks accuracies up in a table. The seed chooses one of the candidate's trainings."""

    space: TableSpace

    def __call__(self, candidate: Candidate, epochs: int, seed: int, *, stop: Stop | None = None) -> Outcome:
        """Return the accuracies after the first `epochs` epochs of one training, or until `stop` ends it.

        Raises:
            InputError: the table has no such candidate, or that training is shorter.
        """
        space = self.space
        [row] = space.position(np.array([space.find(candidate.values)]))
        curve = space.acc1[row, space.choose(row, seed)]
        known = int((~np.isnan(curve)).sum())
        if known and epochs > known:
            raise InputError(f"table {space.name}: {dict(candidate.values)} has {known} epochs, {epochs} are asked for")
        return (
            Outcome(until_stopped(curve[:epochs].tolist(), stop), "ok", 0.0) if known else Outcome((), "diverged", 0.0)
        )
