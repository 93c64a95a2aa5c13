"""Settings of the rivals, in one place.

They are the best of those that were tried on the development tables (docs/search.md names them), as those of NARS are. No
other table had a say. What a library decides by default, and is not named here, was left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvolutionSettings:
    """Settings of regularised evolution. Its paper has a population of 100 and samples of 25 for 20,000 trainings.

    Attributes:
        population: share of all trainings that is alive; so many random candidates come first.
        sample: share of the population from which a parent is chosen.
    """

    population: float
    sample: float


# With a sample of the whole population the best one alive is always the parent.
EVOLUTION = EvolutionSettings(population=0.25, sample=1.0)
EVOLUTION_SEQUENTIAL = EvolutionSettings(population=0.5, sample=1.0)
# Random candidates of TPE, the Gaussian process and SMAC. With other numbers up to 16 they were not better.
STARTUP = 10
ASKS = 50  # proposals of TPE and CMA-ES for one training, at most, before the last one is moved to a new feasible candidate
SMAC_CHALLENGERS = 1000  # random candidates from the best of which SMAC climbs; its own 10,000 take seconds
