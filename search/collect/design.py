"""Which pairs a collection trains: a random layer, a layer around the best of it, and some of both again with other seeds.

The random layer says what the space is like. Among its pairs, good ones are rare, and a search spends most of its trainings on
them: the second layer has their neighbours, and neighbours of these. How noisy a training is, only several trainings of the
same pair can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fbnetv3.errors import InputError
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.propose import fresh
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.search.trial import Trial, evaluated

PARTS = 10  # a round after the first one has so many of all trainings
NEIGHBOURS = (2, 3, 4, 5)  # rounds with neighbours of the best pairs so far
REPEATED = (6, 7)  # rounds that train the same pairs again: every one of them has three trainings
PARENTS = 10  # the neighbours are those of the best part of the pairs
MOST_CHANGES = 3  # coordinates in which a neighbour differs
DRAWS = 50  # times that neighbours are drawn before there are too few


def designed(config: SearchConfig, trainings: int) -> SearchConfig:
    """Return the settings of a collection of so many trainings, in the space and on the data of a search.

    A tenth of the trainings is a round. The first round has what is left of them, four tenths.

    Raises:
        InputError: there are too few trainings for the rounds.
    """
    part = trainings // PARTS
    if part < 2:
        raise InputError(f"a collection has {trainings} trainings; allowed: at least {2 * PARTS}")
    rounds = REPEATED[-1]
    return config.replace(
        first=trainings - (rounds - 1) * part,
        batch=part,
        rounds=rounds,
        pool=max(config.pool, trainings),
        finalists=0,
        repeats=0,
        asynchronous=0,
        stopping="rule",
        warm_start=(),
        baseline=False,
        final_training=False,
    )


def rows_of(context: Context, round: int, trials: Sequence[Trial]) -> IntMatrix:
    """Return the index rows that a round trains; they depend on the arguments alone.

    Args:
        trials: those of all rounds before it.

    Raises:
        InputError: the space has too few feasible candidates.
    """
    config = context.config
    if round == 1:
        return context.constraints.sample(config.batches[0], config.seed)
    if round in NEIGHBOURS:
        return _neighbours(context, round, trials)
    return _again(context, [trial for trial in trials if trial.round < REPEATED[0]])


def _neighbours(context: Context, round: int, trials: Sequence[Trial]) -> IntMatrix:
    """Return new feasible rows that differ from one of the best rows in one to three coordinates."""
    space, n, rng = context.space, context.config.batch, np.random.default_rng([context.config.seed, round])
    known = np.array([trial.candidate for trial in trials])
    parents = np.array(_best_first(context, trials)[: max(len(known) // PARENTS, 1)])
    for _ in range(DRAWS):
        rows = parents[rng.integers(len(parents), size=8 * n)]
        # The first coordinates of a random order change.
        order = rng.random(rows.shape).argsort(axis=1)
        changes = order < rng.integers(1, MOST_CHANGES + 1, size=(len(rows), 1))
        other = (rows + rng.integers(1, np.maximum(space.sizes, 2), size=rows.shape)) % space.sizes
        rows = space.canonical(np.where(changes, other, rows))
        rows = rows[context.constraints.satisfied(rows)]
        known = np.concatenate([known, rows[fresh(space, known, rows)]])
        if len(known) >= len(trials) + n:
            return known[len(trials) :][:n]
    raise InputError(
        f"space {space.name} has too few feasible neighbours of the best {len(parents)} pairs; collect fewer trainings, or "
        "relax the constraint"
    )


def _again(context: Context, trials: Sequence[Trial]) -> IntMatrix:
    """Return the rows that are trained again: the best ones, and as many random ones of the first round."""
    n = context.config.batch
    best = _best_first(context, trials)[: n // 2]
    first = [trial.candidate for trial in trials if trial.round == 1 and trial.candidate not in best]
    return np.array([*best, *first[: n - len(best)]])


def _best_first(context: Context, trials: Sequence[Trial]) -> list[list[int]]:
    """Return the candidates of the trials that say something about them, by validation accuracy."""
    ranked = sorted(evaluated(trials), key=lambda trial: -context.label(trial, trial.epochs))
    return [trial.candidate for trial in ranked]
