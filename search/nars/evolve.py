"""Stage 3, predictor-based evolutionary search: an adaptive genetic algorithm over index rows (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.schema import STRICT
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import Floats, IntMatrix, IntVector, Score, SearchSpace

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, config=STRICT)
class EvolutionSettings:
    """The p, q, K and epsilon of Algorithm 1, and more. The paper gives only epsilon: the others are choices."""

    parents: int = 20  # p: best trials of stage 2 in the first generation
    random: Count = 200  # q: random candidates in the first generation
    population: Count = 100  # K
    children: Count = 8  # of every individual in every generation
    crossover: Share = 0.8  # smallest probability of crossover; 0 in Srinivas and Patnaik
    mutation: Share = 0.1  # probability for a coordinate of an individual below the mean; 0.5 in Srinivas and Patnaik
    near: Share = 0.8  # share of the mutations of a range that step to a value close by
    tolerance: float = 1e-6  # epsilon: a smaller gain of the best score counts as none
    caution: float = 1.0  # a score is the predicted mean minus so many standard deviations; 0 in the paper
    patience: Count = 10  # generations without a gain before it ends; Algorithm 1 has 1
    restarts: Annotated[int, Field(ge=0)] = 3  # new first generations after that
    polish: bool = True  # at the end, try every change of one coordinate until none gains
    evaluations: Count = 20_000  # candidates that are scored at most, restarts and polishing included


PRESETS = {
    "default": EvolutionSettings(),
    # Algorithm 1 as written, with the probabilities of Srinivas and Patnaik.
    "paper": EvolutionSettings(
        crossover=0.0, mutation=0.5, near=0.0, caution=0.0, patience=1, restarts=0, polish=False
    ),
}


@plain_dataclass(frozen=True, eq=False)
class Evolved:
    """What an evolution found.

    Attributes:
        index: index rows of the best of all generations, best first.
        scores: their scores.
        history: the best score up to every generation.
        evaluations: number of candidates that were scored.
    """

    index: IntMatrix
    scores: Floats
    history: tuple[float, ...]
    evaluations: int


def evolve(
    constraints: ConstraintSet, score: Score, best_trials: IntMatrix, settings: EvolutionSettings, seed: int
) -> Evolved:
    """Search for the feasible candidates with the highest score.

    Deviation from Algorithm 1: the `p` trials enter with their predicted and not with their measured accuracy. So the noise
    of a single training cannot hold the best score for ever.

    Args:
        constraints: every candidate that is scored satisfies them.
        score: predicted accuracy of index rows [n, d] as floats [n], higher is better. No row is scored twice.
        best_trials: index rows of the trials of stage 2, best first. Infeasible ones are left out.

    Raises:
        InputError: no feasible candidate was found.
    """
    space, rng = constraints.space, np.random.default_rng(seed)
    scorer = _Scorer(space, score, settings.evaluations)
    everyone = Ranked.empty(space)
    history: list[float] = []
    first = space.canonical(best_trials[constraints.satisfied(best_trials)][: settings.parents])
    for start in range(settings.restarts + 1):
        drawn = constraints.draw(settings.random, rng)
        # The trials are in the first of the first generations only; restarts look elsewhere.
        ranked = scorer(drawn if start else np.concatenate([first, drawn])).top(settings.population)
        idle = 0
        while len(ranked.index) and idle < settings.patience and scorer.left:
            history.append(max([*history[-1:], float(ranked.scores[0])]))
            children = scorer(breed(constraints, ranked, settings, rng))
            best, ranked = ranked.scores[0], ranked.join(children).top(settings.population)
            idle = 0 if ranked.scores[0] - best > settings.tolerance else idle + 1
        everyone = everyone.join(ranked).top(settings.population)
    history.append(float(everyone.scores[0]))
    gain = settings.polish
    while gain and scorer.left:
        neighbours = one_change(space, everyone.index[0])
        tried = everyone.join(scorer(neighbours[constraints.satisfied(neighbours)])).top(settings.population)
        gain, everyone = bool(tried.scores[0] > everyone.scores[0]), tried
        history.append(float(everyone.scores[0]))
    return Evolved(everyone.index, everyone.scores, tuple(history), settings.evaluations - scorer.left)


def cautious_score(space: SearchSpace, predictor: AccuracyPredictor, caution: float) -> Score:
    """Return the score of stage 3: the predicted accuracy minus `caution` standard deviations.

    Deviation from the paper, whose score is the mean. The best mean is where few trials leave the ensemble to guess, and
    there the highest guess is too high.
    """

    def score(index: IntMatrix) -> Floats:
        mean, std = predictor.predict(encode(space, index))
        return mean - caution * std

    return score


def breed(
    constraints: ConstraintSet, parents: Ranked, settings: EvolutionSettings, rng: np.random.Generator
) -> IntMatrix:
    """Return feasible children, made by crossover and mutation with adaptive probabilities.

    The probabilities are those of Srinivas and Patnaik (1994). An individual below the mean crosses with probability 1 and
    mutates each coordinate with probability `mutation`. Above the mean both fall linearly, to 0 for the best individual. One
    coordinate in expectation always mutates, because the best individual could not improve otherwise.

    Deviation: the probability of crossover does not fall below `crossover`. The best individuals survive the selection
    anyway, so they need no protection from crossover.
    """
    space, (n, d) = constraints.space, parents.index.shape
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
    return out[constraints.satisfied(out)]


def _mutants(space: SearchSpace, index: IntMatrix, near: float, rng: np.random.Generator) -> IntMatrix:
    """Return rows in which every coordinate is mutated.

    A coordinate gets a random value. With probability `near`, a range gets a value a few steps away instead: neighbours on a
    range have similar accuracies, so small steps find improvements more often.
    """
    ordered = np.array([c.ordered for c in space.coordinates])
    step = rng.geometric(0.5, size=index.shape) * rng.choice([-1, 1], size=index.shape)
    close = np.clip(index + step, 0, space.sizes - 1)
    return np.where((rng.random(index.shape) < near) & ordered, close, rng.integers(space.sizes, size=index.shape))


def one_change(space: SearchSpace, row: IntVector) -> IntMatrix:
    """Return all index rows that have another value than `row` [d] in at most one coordinate."""
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
        """Return a ranking without rows."""
        return cls(np.empty((0, len(space.sizes)), np.int64), np.empty(0))

    def join(self, other: Ranked) -> Ranked:
        """Return the rows of both rankings, this one's first."""
        return Ranked(np.concatenate([self.index, other.index]), np.concatenate([self.scores, other.scores]))

    def top(self, k: int) -> Ranked:
        """Return the best `k` rows, best first. Of rows with equal scores the earlier one counts as better."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return Ranked(self.index[order], self.scores[order])


class _Scorer:
    """Scores rows that it has not seen before, until it has scored a given number of them."""

    def __init__(self, space: SearchSpace, score: Score, evaluations: int) -> None:
        self.space, self.score, self.left = space, score, evaluations
        # A row is recognised by a 64-bit hash, a random linear combination of its indices.
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
