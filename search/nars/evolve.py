"""Stage 3, predictor-based evolutionary search: an adaptive genetic algorithm over index rows (section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.schema import STRICT
from fbnetv3.search.space.constraints import Floats, Limits, as_limits
from fbnetv3.search.space.costs import Constraint
from fbnetv3.search.space.space import IntMatrix, SearchSpace

Score = Callable[[IntMatrix], Floats]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, config=STRICT)
class EvolutionSettings:
    """Algorithm 1's p, q, K and epsilon. The paper gives only epsilon: the others are this package's choices."""

    parents: int = 20  # p: best trials of stage 2 in the first generation
    random: Count = 200  # q
    population: Count = 100  # K
    children: Count = 8  # of every individual and generation
    crossover: Share = 0.8  # the least probability of it; 0 in Srinivas and Patnaik
    mutation: Share = 0.1  # of a coordinate of an individual below the mean; 0.5 in Srinivas and Patnaik
    near: Share = 0.8  # of the mutations of a range, those that step to a value close by
    tolerance: float = 1e-6  # epsilon
    caution: float = 1.0  # deviations of the ensemble that a score is below its mean; 0 in the paper
    patience: Count = 10  # generations without a gain above the tolerance before it ends; Algorithm 1 has 1
    restarts: Annotated[int, Field(ge=0)] = 3  # new first generations after that
    polish: bool = True  # then try every change of one coordinate, until none gains
    evaluations: Count = 20_000  # scores at the most, all restarts and polishing together


PRESETS = {
    "default": EvolutionSettings(),
    # Algorithm 1 as written, with the probabilities of Srinivas and Patnaik.
    "paper": EvolutionSettings(
        crossover=0.0, mutation=0.5, near=0.0, caution=0.0, patience=1, restarts=0, polish=False
    ),
}


@plain_dataclass(frozen=True, eq=False)
class Evolved:
    """The best of all generations, best first, the best score up to every generation, and what it took."""

    index: IntMatrix
    scores: Floats
    history: tuple[float, ...]
    evaluations: int


def evolve(
    space: SearchSpace,
    score: Score,
    best_trials: IntMatrix,
    constraints: Constraint | Sequence[Constraint] | Limits,
    settings: EvolutionSettings,
    seed: int,
) -> Evolved:
    """Search the space for the highest score inside the constraints.

    Args:
        score: predicted accuracy of index rows [n, d] as floats [n], higher is better; no row is scored twice.
        best_trials: trials of stage 2, best first; those outside the constraints are left out.
        constraints: of which every proposed row keeps all.

    Deviation from Algorithm 1: the `p` trials enter with their predicted, not their measured accuracy, so that the noise
    of one training cannot hold the best score.

    Raises:
        InputError: the constraints cannot be met.
    """
    rng, limits = np.random.default_rng(seed), as_limits(space, constraints)
    scorer = _Scorer(space, score, settings.evaluations)
    everyone = Ranked.empty(space)
    history: list[float] = []
    first = space.canonical(best_trials[limits.allows(best_trials)][: settings.parents])
    for start in range(settings.restarts + 1):
        begin = limits.draw(settings.random, rng)
        ranked = scorer(begin if start else np.concatenate([first, begin])).top(settings.population)
        idle = 0
        while len(ranked.index) and idle < settings.patience and scorer.left:
            history.append(max([*history[-1:], float(ranked.scores[0])]))
            children = scorer(breed(limits, ranked, settings, rng))
            best, ranked = ranked.scores[0], ranked.join(children).top(settings.population)
            idle = 0 if ranked.scores[0] - best > settings.tolerance else idle + 1
        everyone = everyone.join(ranked).top(settings.population)
    history.append(float(everyone.scores[0]))
    gain = settings.polish
    while gain and scorer.left:
        neighbours = one_change(space, everyone.index[0])
        tried = everyone.join(scorer(neighbours[limits.allows(neighbours)])).top(settings.population)
        gain, everyone = tried.scores[0] > everyone.scores[0], tried
        history.append(float(everyone.scores[0]))
    return Evolved(everyone.index, everyone.scores, tuple(history), settings.evaluations - scorer.left)


def breed(limits: Limits, parents: Ranked, settings: EvolutionSettings, rng: np.random.Generator) -> IntMatrix:
    """Children inside the limits by crossover and mutation with adaptive probabilities.

    Those of Srinivas and Patnaik (1994): an individual below the mean crosses with probability 1 and mutates each
    coordinate with `mutation`; above it both fall linearly to 0 at the best one. One coordinate in expectation always
    mutates, or the best could not improve. Deviation: crossover falls to `crossover` only, since the best survive the
    selection anyway, and need not be protected from it.
    """
    space, (n, d) = limits.space, parents.index.shape
    spread = max(parents.scores.max() - parents.scores.mean(), 1e-12)
    distance = np.minimum((parents.scores.max() - parents.scores) / spread, 1.0)  # 0 for the best, 1 from the mean down
    first = np.repeat(np.arange(n), settings.children)
    second = rng.integers(n, size=len(first))
    chance = np.maximum(np.minimum(distance[first], distance[second]), settings.crossover)
    from_second = (rng.random(len(first)) < chance)[:, None] & (rng.random((len(first), d)) < 0.5)
    out = np.where(from_second, parents.index[second], parents.index[first])
    rate = np.maximum(settings.mutation * distance[first], 1 / d)
    out = np.where(rng.random(out.shape) < rate[:, None], _mutants(space, out, settings.near, rng), out)
    out = space.canonical(out)
    return out[limits.allows(out)]


def _mutants(space: SearchSpace, index: IntMatrix, near: float, rng: np.random.Generator) -> IntMatrix:
    """Rows with another value in every coordinate: any, or in a share of the ranges one a few steps away."""
    ordered = np.array([c.ordered for c in space.coordinates])
    step = rng.geometric(0.5, size=index.shape) * rng.choice([-1, 1], size=index.shape)
    close = np.clip(index + step, 0, space.sizes - 1)
    return np.where((rng.random(index.shape) < near) & ordered, close, rng.integers(space.sizes, size=index.shape))


def one_change(space: SearchSpace, row: npt.NDArray[np.int64]) -> IntMatrix:
    """All index rows that differ from `row` [d] in one coordinate."""
    rows = np.repeat(row[None], space.sizes.sum(), axis=0)
    column = np.repeat(np.arange(len(row)), space.sizes)
    rows[np.arange(len(rows)), column] = np.concatenate([np.arange(size) for size in space.sizes])
    return space.canonical(rows)


@plain_dataclass(frozen=True, eq=False)
class Ranked:
    """Index rows with their scores."""

    index: IntMatrix
    scores: Floats

    @classmethod
    def empty(cls, space: SearchSpace) -> Ranked:
        """None."""
        return cls(np.empty((0, len(space.sizes)), np.int64), np.empty(0))

    def join(self, other: Ranked) -> Ranked:
        """Both, one after the other."""
        return Ranked(np.concatenate([self.index, other.index]), np.concatenate([self.scores, other.scores]))

    def top(self, k: int) -> Ranked:
        """The best `k`, best first; of equal ones the earlier."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return Ranked(self.index[order], self.scores[order])


class _Scorer:
    """Scores rows that it has not seen, up to a number of them."""

    def __init__(self, space: SearchSpace, score: Score, evaluations: int) -> None:
        self.space, self.score, self.left = space, score, evaluations
        # Rows are told apart by a 64-bit hash, a random combination of their indices.
        self._factors = np.random.default_rng(0).integers(2**62, size=len(space.sizes)) | 1
        self._seen: set[int] = set()

    def __call__(self, index: IntMatrix) -> Ranked:
        fresh: list[int] = []
        for i, key in enumerate((index @ self._factors).tolist()):
            if len(fresh) < self.left and key not in self._seen:
                self._seen.add(key)
                fresh.append(i)
        self.left -= len(fresh)
        return Ranked(index[fresh], self.score(index[fresh])) if fresh else Ranked.empty(self.space)
