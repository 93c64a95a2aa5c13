"""The search of a rival: it makes as many trainings as NARS, and answers with its best trial.

Like NARS, it is a function of the configuration and of the trials in the ledger, so that resuming is the same call again.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fbnetv3.search.nars.batches import Batch, BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.nars.rounds import round_sizes
from fbnetv3.search.rivals.random import Random
from fbnetv3.search.rivals.rival import Rival
from fbnetv3.search.trial import Trial


def search_with(context: Context, runner: BatchRunner, rival: Rival, batches: Collection[int]) -> Proposal:
    """Ask a rival for a batch, train it and tell its results, again and again.

    Args:
        batches: numbers of candidates that train before results are seen.

    Raises:
        InputError: there are fewer feasible candidates than trainings.
    """
    trials = list[Trial]()
    # Nothing is trained if there are too few candidates: a rival would notice only at the end.
    context.constraints.sample(sum(batches), context.config.seed)
    for round, size in enumerate(batches, 1):
        rows = rival.ask(size)
        new = runner.run(Batch(round, rows, context.base.epochs))
        trials += new
        labels = [np.nan if trial.status == "failed" else context.label(trial, trial.epochs) for trial in new]
        rival.tell(rows, np.array(labels))
    best = context.best_trial(trials)
    return Proposal(tuple(best.candidate), None, best.epochs)


def random_search(context: Context, runner: BatchRunner) -> Proposal:
    """Train random feasible candidates, as many as NARS trains, and answer with the best one.

    All of them are one batch, because none depends on a result. An extension is another one.
    """
    batches = list(round_sizes(context.config, "random").values())
    # NARS draws another pool, with this seed or any other.
    rival = Random(context.constraints, context.trial_seed(0, 1), context.config.pool, batches[0])
    return search_with(context, runner, rival, batches)
