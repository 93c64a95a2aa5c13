"""Collections that take no time."""

import dataclasses

import numpy as np

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


def additive(folder, noise):
    """A collection whose accuracies follow FLOPs and mixup alone, and the true ones [n]. No training diverges."""
    found = collected(folder / "out", folder, WithTest(), trainings=200)
    kept = ~np.isnan(found.acc1[:, 0, -1])
    [free] = [j for j, c in enumerate(found.coordinates) if c.name == "mixup"]
    truth = 70 + found.labels["flops"] / 4e4 - 10 * np.array(found.coordinates[free].values)[found.table[:, free]]
    errors = noise * np.random.default_rng(0).normal(size=found.acc1.shape[:2])
    exists = found.exists(np.arange(len(found.table)))
    acc1 = np.where(exists, truth[:, None] + errors, np.nan)[:, :, None]
    kept_alone = {name: getattr(found, name)[kept] for name in ("table", "trainings", "seconds", "seeds")}
    labels = {name: values[kept] for name, values in found.labels.items()}
    return dataclasses.replace(found, **kept_alone, labels=labels, acc1=acc1[kept], test_acc1=None), truth[kept]
