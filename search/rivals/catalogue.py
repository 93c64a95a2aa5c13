"""The rivals that learn, by name: how each is made for a search, which packages it needs, and which spaces it can search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.nars.rounds import in_batches
from fbnetv3.search.rivals.evolution import Evolution
from fbnetv3.search.rivals.optuna_gp import GaussianProcess
from fbnetv3.search.rivals.optuna_rivals import cma_es, not_numeric, tpe
from fbnetv3.search.rivals.rival import Rival
from fbnetv3.search.rivals.search import search_with
from fbnetv3.search.rivals.settings import EVOLUTION, EVOLUTION_SEQUENTIAL
from fbnetv3.search.rivals.smac_rival import Smac
from fbnetv3.search.rivals.untried import cannot_propose
from fbnetv3.search.space.space import SearchSpace


@dataclass(frozen=True)
class RivalEntry:
    """A rival that learns from results.

    Attributes:
        make: returns the rival for a search, whose batches have a given size.
        packages: that it needs besides those of this package.
        unfit: returns why it cannot search a space, or nothing if it can.
    """

    make: Callable[[Context, int], Rival]
    packages: tuple[str, ...] = ()
    unfit: Callable[[SearchSpace], str] = cannot_propose

    def search(self, context: Context, runner: BatchRunner, *, batch: int = 0) -> Proposal:
        """Search with this rival, with as many trainings as NARS makes; see `search_with`.

        Args:
            batch: size of its batches; 0 for that of NARS's batches.
        """
        size = batch or context.config.batch
        return search_with(context, runner, self.make(context, size), in_batches(context.config.trainings, size))


def _evolution(context: Context, batch: int) -> Rival:
    settings = EVOLUTION_SEQUENTIAL if batch == 1 else EVOLUTION
    return Evolution(context.constraints, context.trial_seed(0, 3), context.config.trainings, settings)


def _without_order(space: SearchSpace) -> str:
    return cannot_propose(space) or not_numeric(space)


# The second number of a seed is the rival's own.
RIVALS = {
    "tpe": RivalEntry(lambda context, _: tpe(context.constraints, context.trial_seed(0, 2)), ("optuna",)),
    "evolution": RivalEntry(_evolution),
    "gp": RivalEntry(lambda context, _: GaussianProcess(context.constraints, context.trial_seed(0, 5)), ("optuna",)),
    "cmaes": RivalEntry(
        lambda context, _: cma_es(context.constraints, context.trial_seed(0, 6)), ("optuna", "cmaes"), _without_order
    ),
    "smac": RivalEntry(
        lambda context, batch: Smac(context.constraints, context.trial_seed(0, 7), batch), ("smac", "ConfigSpace")
    ),
}
