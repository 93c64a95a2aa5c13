"""The best of many more candidates than memory holds: drawn, filtered, screened and scored anew piece by piece.

Not in the paper, whose pool has 20,000 (section 4.1): a wider one costs seconds once a predictor is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.sobol import CHUNK, draws
from fbnetv3.search.space.space import IntMatrix, SearchSpace

Floats = npt.NDArray[np.floating]
Score = Callable[[IntMatrix], Floats]  # index rows [n, d] to scores [n], higher is better


@dataclass(frozen=True, eq=False)
class Best:
    """Different index rows [n, d], best first, their scores [n], and how many rows lay inside the constraint."""

    index: IntMatrix
    scores: Floats
    inside: int


def inside(space: SearchSpace, constraint: Constraint, n: int, seed: int) -> Iterator[IntMatrix]:
    """Of `n` Sobol rows those inside the constraint, in pieces; equal rows are not taken out."""
    for index in draws(space, n, seed):
        yield space.canonical(index[constraint.holds(constraint.values(space, index))])


def best(space: SearchSpace, constraint: Constraint, n: int, seed: int, screen: Score, score: Score, keep: int) -> Best:
    """The `keep` different rows that `screen` likes best of `n` Sobol rows inside the constraint, ordered by `score`.

    Memory is that of three times `keep` rows, whatever `n` is.

    Args:
        n: rows drawn; those outside the constraint count.
        screen: cheap, of every row inside, such as one member of an ensemble.
        score: of the rows kept alone, such as the whole ensemble; called with at most `sampling.CHUNK` rows.
    """
    kept = Best(np.empty((0, len(space.coordinates)), np.int64), np.empty(0), 0)
    fresh, waiting, count = [kept], 0, 0
    for rows in inside(space, constraint, n, seed):
        count += len(rows)
        scores = screen(rows)
        if len(kept.index) == keep:  # what the worst of the kept beats will not be needed
            better = scores > kept.scores[-1]
            rows, scores = rows[better], scores[better]
        fresh.append(Best(rows, scores, 0))
        waiting += len(rows)
        if waiting >= keep:
            kept, waiting = _top(space, fresh, keep), 0
            fresh = [kept]
    index = _top(space, fresh, keep).index
    scores = np.concatenate([np.empty(0), *(score(index[i : i + CHUNK]) for i in range(0, len(index), CHUNK))])
    order = np.argsort(-scores, kind="stable")
    return Best(index[order], scores[order], count)


def _top(space: SearchSpace, parts: list[Best], keep: int) -> Best:
    """The best of the different rows of several parts; of equal scores the earlier."""
    index = np.concatenate([part.index for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    first = space.distinct(index)
    order = first[np.argsort(-scores[first], kind="stable")[:keep]]
    return Best(index[order], scores[order], 0)
