"""Optimizer and learning rate of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fbnetv3.training.recipe import Recipe

# The paper does not give RMSProp's alpha and epsilon: these are the usual values of this family of networks (timm's).
ALPHA, EPSILON = 0.9, 1e-3


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters, at the rate after warm-up.

    `rmsprop` has epsilon outside the root and a mean square that starts at 0; `rmsprop_tf` inside, and at 1.
    """
    lr, momentum, decay = recipe.lr, recipe.momentum, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=decay, foreach=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr, ALPHA, EPSILON, decay, momentum, foreach=True)
    from timm.optim import RMSpropTF

    optimizer: torch.optim.Optimizer = RMSpropTF(
        parameters, lr=lr, alpha=ALPHA, eps=EPSILON, weight_decay=decay, momentum=momentum
    )
    return optimizer


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Rate of a step: linear warm-up per step, then `lr_decay` once per whole epoch after it (sections 4.1 and 4.2)."""
    warmup_steps = recipe.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return recipe.lr * (step + 1) / (warmup_steps + 1)
    return recipe.lr * recipe.lr_decay ** int((step - warmup_steps) / steps_per_epoch)
