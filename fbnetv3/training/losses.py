"""The loss of a step: cross entropy with smoothed and mixed labels and weighted classes, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbnetv3.training.data.augment import mixup_weight
from fbnetv3.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Target:
    """What the network should predict for a batch.

    Attributes:
        labels: int64 [n].
        other: int64 [n], the labels of the images that these were mixed with; None without mixup.
        weight: weight of `labels`; `other` has the rest. As a tensor it must be on the device: then no number goes there.
        teacher: logits [n, classes] of the teacher on the same inputs, or None.
    """

    labels: Tensor
    other: Tensor | None = None
    weight: float | Tensor = 1.0
    teacher: Tensor | None = None

    def part(self, rows: slice) -> Target:
        """Return the target of some rows of the batch."""
        # The weight is the same for all rows: a batch draws one.
        teacher = None if self.teacher is None else self.teacher[rows]
        other = None if self.other is None else self.other[rows]
        return Target(self.labels[rows], other, self.weight, teacher)


def mixup(x: Tensor, labels: Tensor, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Target]:
    """Return a batch with the recipe's mixup, and what the network should predict for it.

    Args:
        x: inputs float32 [n, c, h, w].
        labels: int64 [n].
        rng: draws the batch's weight. Without mixup in the recipe nothing is drawn, and the batch is returned as it is.
    """
    weight = mixup_weight(recipe.mixup, rng)
    return mix(x, labels, None if weight == 1.0 else weight)


def mix(x: Tensor, labels: Tensor, weight: float | Tensor | None) -> tuple[Tensor, Target]:
    """Mix each image with another one of the same batch: with the batch in reverse order.

    Args:
        weight: of each image; the image that it is mixed with has the rest. None: no mixup.
    """
    if weight is None:
        return x, Target(labels)
    return torch.lerp(x.flip(0), x, weight), Target(labels, labels.flip(0), weight)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Return the weight of every class in the loss, float32 [classes]: inversely proportional to its number of images.

    All classes together count as much as all images did: the mean over the images is 1. This is scikit-learn's "balanced". A
    class without images has weight 0.
    """
    images, present = sum(counts), sum(count > 0 for count in counts)
    return torch.tensor([images / (present * count) if count else 0.0 for count in counts], dtype=torch.float32)


def loss(logits: Tensor, target: Target, recipe: Recipe, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean over the batch of (1 - w) x cross entropy + w x distillation loss; w is the recipe's `distillation`.

    Weights of classes multiply the cross entropy of an image. They are not divided by their sum over the batch, as torch does:
    a batch in parts would then have another loss than the whole batch.

    The distillation loss is the Kullback-Leibler divergence from the teacher's class probabilities at the recipe's
    temperature T, times T squared. The paper does not give the temperature.
    """
    smoothing = recipe.label_smoothing
    value = _cross_entropy(logits, target.labels, smoothing, class_weights)
    # Cross entropy is linear in the target, so the loss of mixed labels is the mix of the losses.
    if target.other is not None:
        other = _cross_entropy(logits, target.other, smoothing, class_weights)
        value = target.weight * value + (1 - target.weight) * other
    if target.teacher is None:
        return value
    t = recipe.distillation_temperature
    # Gradients of softened probabilities shrink with 1 / T squared; the factor T squared keeps both losses comparable.
    soft = F.kl_div(
        F.log_softmax(logits / t, 1), F.log_softmax(target.teacher / t, 1), reduction="batchmean", log_target=True
    )
    return (1 - recipe.distillation) * value + recipe.distillation * t * t * soft


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (class_weights[labels] * each).mean()
