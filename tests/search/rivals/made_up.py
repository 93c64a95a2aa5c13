"""Rivals on a made-up table that tests share, and a loop that asks and tells."""

import numpy as np

from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.constraints import Constraint
from tests.search.tables import whole_grid

CONFIG = load_preset("quickstart").replace(pool=27, first=None, batch=4, rounds=5, finalists=4)


def grid_context(folder, sizes=(5, 5, 5), max_flops=1e9, seed=0, keep=1.0):
    """The context of a search of 24 trainings on a table in which more of every coordinate is better."""
    table = whole_grid(folder / f"{len(list(folder.iterdir()))}.csv", sizes, keep=keep)
    return Context.of(CONFIG.replace(space=table, constraint=Constraint("flops", max=max_flops), seed=seed))


def run(rival, context, n, batch, score=None):
    """Ask in batches and tell the table's accuracies, or those of `score`; all rows in order."""
    rows = np.empty((0, len(context.space.coordinates)), int)
    for i in range(0, n, batch):
        new = rival.ask(min(batch, n - i))
        rival.tell(new, (score or context.space.accuracy)(new))
        rows = np.concatenate([rows, new])
    return rows
