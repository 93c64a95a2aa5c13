"""Collections that take no time."""

import dataclasses

from fbnetv3.search.collect.collection import collect
from fbnetv3.search.execution.settings import ExecutorSettings
from tests.search.scripted import Scripted, config

ONE = ExecutorSettings(workers=1)
TRAININGS = 40  # rounds of 16, 4, 4, 4, 4, 4 and 4


class WithTest(Scripted):
    """Scripted trainings whose test accuracy is half of the validation accuracy."""

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        return dataclasses.replace(outcome, test_acc1=tuple(value / 2 for value in outcome.acc1))


def collected(out, settings, evaluator=None, trainings=TRAININGS, **changes):
    """The table of a collection with scripted trainings; the recipe is in `settings`."""
    return collect(config(settings, **changes), trainings, out, evaluator=evaluator or Scripted(), executor=ONE)
