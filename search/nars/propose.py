"""The next batch of stage 2: candidates of the pool and of an evolution, and the acquisition that chooses among them."""

from __future__ import annotations

import dataclasses

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.acquisition import expected_improvement, improving_batch, promising_batch
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import Floats, IntMatrix, IntVector, Score, SearchSpace

DRAWS = 512  # joint draws of the accuracies
ROUGH = 2  # members of the ensemble that look at all candidates
SCREENED = 2000  # candidates that all members look at
DRAWN = 400  # candidates that are drawn jointly: those with the largest expected improvement of their own
# The evolution of every round is short, because it starts from the best trials.
EVOLUTION = EvolutionSettings(random=100, population=50, children=4, patience=3, restarts=0, evaluations=4000)


def propose(
    context: Context, predictor: AccuracyPredictor, trained: IntMatrix, pending: IntMatrix, n: int
) -> IntMatrix:
    """Return the index rows of the next `n` candidates [n, d]. They depend on the arguments alone.

    Args:
        predictor: fitted to the trials.
        trained: index rows of all trials, the failed ones too.
        pending: index rows of the candidates that are training now.

    Raises:
        InputError: there are fewer candidates left.
    """
    space, pool = context.space, context.pool()
    known = np.concatenate([trained, pending])
    known = known[space.distinct(known)]
    if context.config.acquisition == "mean":
        left = np.zeros(len(pool), bool)
        left[fresh(space, known, pool)] = True
        return pool[promising_batch(predictor.predict_members(encode(space, pool)), ~left, n, pool)]
    score = improvement_score(space, predictor, known)
    rows = pool
    if context.config.beyond_pool:
        rows = np.concatenate([pool, evolved_rows(context, predictor, known, score)])
    rows = rows[fresh(space, known, rows)]
    if len(rows) < n:
        raise InputError(f"the pool has {len(rows)} candidates left, a batch needs {n}; give a larger pool")
    # A rough look at all rows leaves time for a good look at the best of them.
    for judge, size in ((improvement_score(space, predictor.rougher(ROUGH), known), SCREENED), (score, DRAWN)):
        rows = rows[np.argsort(-judge(rows), kind="stable")[: max(size, 4 * n)]]
    # Another seed in every round, and the same one when the round is made again.
    draws = predictor.draw(encode(space, np.concatenate([known, rows])), DRAWS, len(known))
    return rows[improving_batch(draws[:, len(known) :], draws[:, : len(known)], n)]


def fresh(space: SearchSpace, known: IntMatrix, rows: IntMatrix) -> IntVector:
    """Return the positions of the rows that are neither known nor equal to an earlier row."""
    first = space.distinct(np.concatenate([known, rows]))
    return first[first >= len(known)] - len(known)


def improvement_score(space: SearchSpace, predictor: AccuracyPredictor, known: IntMatrix) -> Score:
    """Return the expected improvement of single candidates on the best known one; where it is 0, how far below they are."""
    best = float(predictor.predict(encode(space, known))[0].max())

    def score(index: IntMatrix) -> Floats:
        mean, std = predictor.predict(encode(space, index))
        gain = expected_improvement(mean, std, best)
        # A single network has no doubts: then most candidates improve by 0, and their means decide.
        return np.where(gain > 0.0, gain, mean - best)

    return score


def evolved_rows(context: Context, predictor: AccuracyPredictor, known: IntMatrix, score: Score) -> IntMatrix:
    """Return rows with large scores, which an evolution found that starts from the best known candidates.

    Deviation from the paper, whose stage 2 stays in the pool. In a large space, the pool has no neighbours of the best trials.
    """
    best = known[np.argsort(-predictor.predict(encode(context.space, known))[0], kind="stable")]
    settings = dataclasses.replace(EVOLUTION, parents=context.config.evolution.parents)
    return evolve(context.constraints, score, best, settings, context.config.seed + len(known)).index
