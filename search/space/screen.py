"""The best of many more candidates than fit into memory: drawn, filtered, screened and scored piece by piece.

This is not in the paper, whose pool has 20,000 candidates (section 4.1). Once there is a predictor, millions take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.sobol import CHUNK, draws
from fbnetv3.search.space.space import Floats, IntMatrix, Score, SearchSpace


@dataclass(frozen=True, eq=False)
class Screened:
    """Different index rows [n, d], best first, their scores [n], and how many of all rows were feasible."""

    index: IntMatrix
    scores: Floats
    feasible: int


def screen(
    space: SearchSpace, constraint: Constraint, n: int, seed: int, cheap: Score, score: Score, keep: int
) -> Screened:
    """Draw `n` Sobol rows and return the `keep` different feasible ones with the highest cheap score, ordered by `score`.

    It needs memory for three times `keep` rows, whatever `n` is.

    Args:
        n: rows drawn, infeasible ones included.
        cheap: score of every feasible row, for example by one member of an ensemble.
        score: score of the rows that were kept, for example by the whole ensemble; it is called with at most
            `sobol.CHUNK` rows.
    """
    kept = Screened(np.empty((0, len(space.coordinates)), np.int64), np.empty(0), 0)
    fresh, waiting, count = [kept], 0, 0
    for drawn in draws(space, n, seed):
        rows = space.canonical(drawn[constraint.satisfied(constraint.values(space, drawn))])
        count += len(rows)
        scores = cheap(rows)
        if len(kept.index) == keep:
            # Rows that are worse than all of the kept ones can never be among the best.
            better = scores > kept.scores[-1]
            rows, scores = rows[better], scores[better]
        fresh.append(Screened(rows, scores, 0))
        waiting += len(rows)
        # Sorting is the expensive part, so it waits until there are as many new rows as kept ones.
        if waiting >= keep:
            kept, waiting = _top(space, fresh, keep), 0
            fresh = [kept]
    index = _top(space, fresh, keep).index
    scores = np.concatenate([np.empty(0), *(score(index[i : i + CHUNK]) for i in range(0, len(index), CHUNK))])
    order = np.argsort(-scores, kind="stable")
    return Screened(index[order], scores[order], count)


def _top(space: SearchSpace, parts: list[Screened], keep: int) -> Screened:
    """Return the best `keep` different rows of several parts; of rows with equal scores, the earlier ones."""
    index = np.concatenate([part.index for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    first = space.distinct(index)
    order = first[np.argsort(-scores[first], kind="stable")[:keep]]
    return Screened(index[order], scores[order], 0)
