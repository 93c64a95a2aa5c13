"""The optimizer, the learning rates and the moving average of a recipe."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from fbnetv3.training.network.depth import learning_rate_scales
from fbnetv3.training.recipe import Recipe


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return one group with all parameters, or without `decay_norm_bias` two groups: without and with weight decay.

    As in timm, vectors, scalars and everything called a bias are in the group without decay, which comes first, and frozen
    parameters are in neither. With `layer_decay` every layer has groups of its own, with the factor `lr_scale` of its rate.
    """
    if recipe.layer_decay < 1.0:
        return _layer_groups(model, recipe)
    if recipe.decay_norm_bias or recipe.weight_decay == 0.0:
        return [{"params": list(model.parameters())}]
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if _is_norm_or_bias(name, parameter) else decayed).append(parameter)
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": recipe.weight_decay},
    ]
    return [group for group in groups if group["params"]]  # a network may have no norms and biases


def _is_norm_or_bias(name: str, parameter: Tensor) -> bool:
    return parameter.ndim <= 1 or name.endswith(".bias")


def _layer_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    scales = learning_rate_scales(model, recipe.layer_decay)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = not recipe.decay_norm_bias and _is_norm_or_bias(name, parameter)
            scale, decay = scales[name], 0.0 if plain else recipe.weight_decay
            new = {"params": [], "weight_decay": decay, "lr": scale * recipe.lr, "lr_scale": scale}
            groups.setdefault((scale, decay), new)["params"].append(parameter)
    return list(groups.values())


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step. With a recipe's `layer_decay`, every layer gets its part of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the model's parameters, with the learning rate after warm-up.

    `rmsprop` is torch's: epsilon is outside the root, and the mean square starts at 0. `rmsprop_tf` is TensorFlow's: epsilon
    is inside the root, and the mean square starts at 1.
    """
    groups = parameter_groups(model, recipe)
    lr, momentum, decay = recipe.lr, recipe.momentum, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum, weight_decay=decay, nesterov=recipe.nesterov, foreach=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr, recipe.alpha, recipe.eps, decay, momentum, foreach=True)
    from timm.optim import RMSpropTF

    # timm has had `foreach` since 1.0.31. In the groups older versions ignore it; as an argument they would refuse it.
    fast_groups = [group | {"foreach": True} for group in groups]
    optimizer: torch.optim.Optimizer = RMSpropTF(
        fast_groups, lr=lr, alpha=recipe.alpha, eps=recipe.eps, weight_decay=decay, momentum=momentum
    )
    return optimizer


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step: linear warm-up per step, then the recipe's schedule.

    "exponential" multiplies the rate by `lr_decay` after every full epoch after warm-up (sections 4.1 and 4.2), "step" after
    every `step_epochs` epochs. "cosine" falls to 0, a little with every step, over the rest of the recipe's epochs (section
    4.3, detection).

    Args:
        step: number of the step in the whole training, from 0.
    """
    warmup_steps = recipe.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        if recipe.warmup_lr is None:
            return recipe.lr * (step + 1) / (warmup_steps + 1)  # the first step is not wasted on a rate of 0
        return recipe.warmup_lr + step * ((recipe.lr - recipe.warmup_lr) / warmup_steps)
    if recipe.schedule == "cosine":
        length = recipe.epochs * steps_per_epoch - warmup_steps
        return 0.5 * recipe.lr * (1.0 + math.cos(math.pi * (step - warmup_steps) / length))
    epochs = int((step - warmup_steps) / steps_per_epoch)  # full epochs after warm-up, which may end within one
    return recipe.lr * recipe.lr_decay ** (epochs if recipe.schedule == "exponential" else epochs // recipe.step_epochs)


class RecipeSchedule(LRScheduler):
    """The recipe's learning rates as a scheduler of torch, for a loop other than this package's.

    Call `step` after every step of the optimizer, not after every epoch. A parameter group whose rate is not the recipe's
    keeps its ratio to the recipe's rate, or has it as `lr_scale`, which is timm's name for it.

    Args:
        steps_per_epoch: steps of the optimizer in an epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe, self.steps_per_epoch = recipe, steps_per_epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every parameter group for the next step."""
        rate = learning_rate(self.recipe, self.last_epoch, self.steps_per_epoch)
        groups = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        # Divided first: a group with the recipe's rate then gets the very bits of `learning_rate`.
        return [rate * group.get("lr_scale", base / self.recipe.lr) for group, base in groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the recipe, so that torch loads it as plain data."""
        return {key: value for key, value in super().state_dict().items() if key != "recipe"}


def make_average(model: nn.Module, recipe: Recipe) -> MovingAverage | None:
    """Return the moving average (EMA) of the weights that the recipe reports, or None if it reports the weights themselves.

    Call its `update` after every step of the optimizer. Its `module` is the averaged network.
    """
    return MovingAverage(model, recipe.ema_decay) if recipe.ema else None


class MovingAverage(nn.Module):
    """A copy of a network that follows the exponential moving average (EMA) of its weights and buffers.

    The first update copies the network. Numbers and state dict are those of torch's AveragedModel with
    `get_ema_multi_avg_fn` and `use_buffers`. AveragedModel searches both networks for their tensors in every step, which
    takes longer than averaging them; this class remembers where they are.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(model)
        # A buffer, because torch's AveragedModel has it in its state dict too. It is where the weights are.
        device = next((parameter.device for parameter in model.parameters()), None)
        self.register_buffer("n_averaged", torch.tensor(0, device=device))
        self._empty = True  # whether `n_averaged` is 0, kept here because asking a GPU would wait for it in every step
        self._places = _places(self.module), _places(model)
        # Floating-point tensors come first in both lists, so that one slice of each can be averaged in one call.
        self._floats = sum(tensor.is_floating_point() for tensor in _tensors(self._places[0]))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the averaged network."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights of the network."""
        averages, news = map(_tensors, self._places)
        # The first weights would otherwise stay in the average for long: at a decay of 0.999, for a thousand steps.
        if self._empty:
            torch._foreach_copy_(averages, news)
            self._empty = False
        else:
            floats = self._floats
            torch._foreach_lerp_(averages[:floats], news[:floats], 1 - self.decay)
            if counts := averages[floats:]:
                torch._foreach_copy_(counts, self._mean(counts, news[floats:]))
        self.n_averaged += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._empty = not self.n_averaged

    def _mean(self, averages: Sequence[Tensor], news: Sequence[Tensor]) -> list[Tensor]:
        """Average whole numbers, such as a batch norm's count of batches, as torch's AveragedModel does: rounded down.

        They are single numbers, so joining them first makes one operation of many.
        """
        old, new = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (averages, news))
        parts = (old * self.decay + new * (1 - self.decay)).split([tensor.numel() for tensor in averages])
        return [part.view_as(tensor) for part, tensor in zip(parts, averages, strict=True)]


def _places(model: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Return the dictionaries and keys in which modules keep their weights and buffers, floating-point ones first.

    The tensors themselves would not do: a module may replace its tensor by another one.
    """
    kept = [part for module in model.modules() for part in (module._parameters, module._buffers)]
    # By id: a tensor that two modules share must be averaged once.
    places = {id(tensor): (part, name) for part in kept for name, tensor in part.items() if tensor is not None}
    return sorted(places.values(), key=lambda place: not place[0][place[1]].is_floating_point())


def _tensors(places: Iterable[tuple[dict[str, Any], str]]) -> list[Tensor]:
    return [part[name] for part, name in places]
