"""Stage 3, predictor-based evolutionary search: an adaptive genetic algorithm over index rows (section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from fbnetv3.schema import STRICT
from fbnetv3.search.labels import Constraint, cost
from fbnetv3.search.sampling import sample
from fbnetv3.search.space import IntMatrix, SearchSpace

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, config=STRICT)
class EvolutionSettings:
    """Algorithm 1's p, q, K and epsilon. The paper gives only epsilon: the others are this package's choices."""

    parents: int = 20  # p: best trials of stage 2 in the first generation
    random: int = 200  # q
    population: int = 100  # K
    children: int = 8  # of every individual and generation
    tolerance: float = 1e-6  # epsilon
    caution: float = 1.0  # deviations of the ensemble that a score is below its mean; 0 in the paper
    patience: int = 3  # generations without a gain above the tolerance before it ends; Algorithm 1 has 1
    generations: int = 200  # at the most


@plain_dataclass(frozen=True, eq=False)
class Evolved:
    """The last generation, best first, and the best score of every generation."""

    index: IntMatrix
    scores: Scores
    history: tuple[float, ...]


def evolve(
    space: SearchSpace,
    score: Callable[[IntMatrix], Scores],
    best_trials: IntMatrix,
    constraint: Constraint,
    settings: EvolutionSettings,
    seed: int,
) -> Evolved:
    """Search the space for the highest score inside the constraint.

    Args:
        score: predicted accuracy of index rows, higher is better.
        best_trials: trials of stage 2, best first; those outside the constraint are left out.

    Deviation from Algorithm 1: the `p` trials enter with their predicted, not their measured accuracy, so that the noise
    of one training cannot hold the best score.

    Raises:
        InputError: the constraint cannot be met.
    """
    rng = np.random.default_rng(seed)
    allowed = best_trials[constraint.allows(cost(space, best_trials))][: settings.parents]
    population = np.unique(np.vstack([allowed, sample(space, settings.random, constraint, seed)]), axis=0)
    population, scores = _top(population, score(population), settings.population)
    history, idle = [float(scores[0])], 0
    while idle < settings.patience and len(history) <= settings.generations:
        children = breed(space, population, scores, settings.children, rng)
        children = children[constraint.allows(cost(space, children))]
        everyone = np.unique(np.vstack([population, children]), axis=0)
        population, scores = _top(everyone, score(everyone), settings.population)
        idle = 0 if scores[0] - history[-1] > settings.tolerance else idle + 1
        history.append(float(scores[0]))
    return Evolved(population, scores, tuple(history))


def breed(
    space: SearchSpace, population: IntMatrix, scores: Scores, children: int, rng: np.random.Generator
) -> IntMatrix:
    """Children by crossover and mutation with the adaptive probabilities of Srinivas and Patnaik (1994).

    An individual below the mean crosses with probability 1 and mutates each coordinate with 0.5; above it both fall
    linearly to 0 at the best one. One coordinate in expectation always mutates, or the best could not improve.
    """
    n, d = population.shape
    spread = max(scores.max() - scores.mean(), 1e-12)
    distance = np.minimum((scores.max() - scores) / spread, 1.0)  # 0 for the best, 1 from the mean down
    first = np.repeat(np.arange(n), children)
    second = rng.integers(n, size=len(first))
    crossed = rng.random(len(first)) < np.minimum(distance[first], distance[second])
    from_second = crossed[:, None] & (rng.random((len(first), d)) < 0.5)
    out = np.where(from_second, population[second], population[first])
    mutated = rng.random(out.shape) < np.maximum(0.5 * distance[first], 1 / d)[:, None]
    return space.canonical(np.where(mutated, rng.integers(space.sizes, size=out.shape), out))


def _top(index: IntMatrix, scores: Scores, k: int) -> tuple[IntMatrix, Scores]:
    order = np.argsort(-scores, kind="stable")[:k]
    return index[order], scores[order]
