"""Regularised evolution (Real et al., 2019): the best of a sample of the population has a child, and the oldest leaves."""

from __future__ import annotations

from collections import deque

from fbnetv3.search.rivals.rival import Guided, Row
from fbnetv3.search.rivals.settings import EvolutionSettings
from fbnetv3.search.space.constraints import ConstraintSet


class Evolution(Guided):
    """Regularised evolution. A child differs from its parent in one coordinate.

    It learns nothing of infeasible candidates: a child is drawn among the feasible neighbours of its parent that are new. If
    all of these were tried, the child differs in more coordinates.

    Args:
        trainings: of the whole search; the settings are shares of them.
    """

    def __init__(self, constraints: ConstraintSet, seed: int, trainings: int, settings: EvolutionSettings) -> None:
        population = max(round(settings.population * trainings), 2)
        super().__init__(constraints, seed, population)
        self.sample = max(round(settings.sample * population), 2)
        # The youngest candidates are alive, by the order of their results.
        self.alive: deque[tuple[Row, float]] = deque(maxlen=population)

    def _begin(self, row: list[int]) -> None:
        """Do nothing: a candidate is alive when its result is there."""

    def _propose(self) -> list[int]:
        drawn = self.untried.rng.choice(len(self.alive), min(self.sample, len(self.alive)), replace=False)
        # Of equally accurate candidates the oldest one wins.
        parent, _ = max((self.alive[i] for i in sorted(drawn.tolist())), key=lambda one: one[1])
        return self.untried.near(parent)

    def _learn(self, row: Row, accuracy: float) -> None:
        if accuracy == accuracy:
            self.alive.append((row, accuracy))
