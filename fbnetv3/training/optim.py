"""Optimizer and learning rate of a recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from fbnetv3.training.recipe import Recipe


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """One group of all parameters; without `decay_norm_bias` two, as timm's, first the one that is not decayed.

    Not decayed are vectors, scalars and whatever is called a bias; frozen parameters are then in no group.
    """
    if recipe.decay_norm_bias or recipe.weight_decay == 0.0:
        return [{"params": list(model.parameters())}]
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name.endswith(".bias") else decayed).append(parameter)
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": recipe.weight_decay},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the model's parameters, at the rate after warm-up.

    `rmsprop` has epsilon outside the root and a mean square that starts at 0; `rmsprop_tf` inside, and at 1.
    """
    groups = parameter_groups(model, recipe)
    lr, momentum, decay = recipe.lr, recipe.momentum, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum, weight_decay=decay, nesterov=recipe.nesterov, foreach=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr, recipe.alpha, recipe.eps, decay, momentum, foreach=True)
    from timm.optim import RMSpropTF

    optimizer: torch.optim.Optimizer = RMSpropTF(
        groups, lr=lr, alpha=recipe.alpha, eps=recipe.eps, weight_decay=decay, momentum=momentum
    )
    return optimizer


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Rate of a step, counted from 0: linear warm-up per step, then the recipe's schedule.

    "exponential" multiplies by `lr_decay` once per whole epoch after warm-up (sections 4.1 and 4.2), "step" once per
    `step_epochs` of them; "cosine" falls to 0 per step over the rest of the recipe's epochs (section 4.3, detection).
    """
    warmup_steps = recipe.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        if recipe.warmup_lr is None:
            return recipe.lr * (step + 1) / (warmup_steps + 1)
        return recipe.warmup_lr + step * ((recipe.lr - recipe.warmup_lr) / warmup_steps)
    if recipe.schedule == "cosine":
        length = recipe.epochs * steps_per_epoch - warmup_steps
        return 0.5 * recipe.lr * (1.0 + math.cos(math.pi * (step - warmup_steps) / length))
    epochs = int((step - warmup_steps) / steps_per_epoch)
    return recipe.lr * recipe.lr_decay ** (epochs if recipe.schedule == "exponential" else epochs // recipe.step_epochs)
