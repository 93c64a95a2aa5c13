"""The loss of a step: cross entropy with smoothed and mixed labels, and distillation from a teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from fbnetv3.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Target:
    """What a batch should give: labels int64 [n], mixed with `other` in proportion `weight` : 1 - `weight`."""

    labels: Tensor
    other: Tensor
    weight: float  # 1 without mixup
    teacher: Tensor | None = None  # logits [n, classes] of the teacher on the same inputs

    def part(self, rows: slice) -> Target:
        """The target of some rows."""
        teacher = None if self.teacher is None else self.teacher[rows]
        return Target(self.labels[rows], self.other[rows], self.weight, teacher)


def loss(logits: Tensor, target: Target, recipe: Recipe) -> Tensor:
    """Mean over the batch of (1 - w) x cross entropy + w x distillation; w is the recipe's `distillation`.

    Distillation is the Kullback-Leibler divergence from the teacher's class probabilities at the recipe's temperature T,
    times T squared. The paper does not give the temperature.
    """
    smoothing = recipe.label_smoothing
    value = F.cross_entropy(logits, target.labels, label_smoothing=smoothing)
    if target.weight != 1.0:
        other = F.cross_entropy(logits, target.other, label_smoothing=smoothing)
        value = target.weight * value + (1 - target.weight) * other
    if target.teacher is None:
        return value
    t = recipe.distillation_temperature
    soft = F.kl_div(
        F.log_softmax(logits / t, 1), F.log_softmax(target.teacher / t, 1), reduction="batchmean", log_target=True
    )
    return (1 - recipe.distillation) * value + recipe.distillation * t * t * soft
