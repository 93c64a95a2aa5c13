"""The layers and stages of a network in their order from the image to the classifier.

A recipe's `layer_decay` gives layers near the image smaller learning rates, and its `frozen_stages` keeps the first stages as
they are. Networks of this package and of timm say themselves what their layers and stages are (`group_matcher`). In others,
containers such as `nn.Sequential` are opened: what is inside is a layer, and a container of layers is a stage. Modules count in
the order in which they are registered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from fbnetv3.errors import InputError
from fbnetv3.training.network.branches import has_weight
from fbnetv3.training.network.regularised_model import few

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LARGE = 0.5  # a module with a larger share of all parameters is opened too: it is most of the network, and no layer


@dataclass(frozen=True)
class Frozen:
    """The frozen part of a network: `parameters` of `total` numbers do not change, nor do the statistics in `modules`."""

    modules: tuple[nn.Module, ...]
    names: tuple[str, ...]
    parameters: int
    total: int

    def __str__(self) -> str:
        """Return one line, such as "stem, stages.0 (1.2% of 8,598,480 parameters)"."""
        return f"{few(self.names)} ({self.parameters / self.total:.1%} of {self.total:,} parameters)"


def learning_rate_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of every parameter by its name: 1 in the last layer, `layer_decay` before it...

    Norms belong to the layer before them. Networks of this package and of timm have the factors of timm's `--layer-decay`.

    Raises:
        InputError: the network is one layer.
    """
    layers = _numbers(model, coarse=False)
    last = max(layers.values(), default=0)
    if not last:
        raise InputError(
            f"layer_decay is {layer_decay}, but {type(model).__name__} has one layer only; set layer_decay to 1.0"
        )
    return {name: layer_decay ** (last - number) for name, number in layers.items()}


def freeze_stages(model: nn.Module, count: int) -> Frozen:
    """Freeze the stem and the first `count` stages of a network: their weights need no gradient any more.

    The modules in the result must also stay in eval mode, or the running statistics of their norms would change.

    Raises:
        InputError: the network has fewer stages.
    """
    stages = _numbers(model, coarse=True)
    # The first group is the stem, and the last one has the classifier, which must learn.
    most = max(max(stages.values(), default=0) - 1, 0)
    if count > most:
        has = f"{most} stages before its classifier" if most else "no stages that could be told apart"
        raise InputError(f"frozen_stages is {count}, but {type(model).__name__} has {has}; allowed: 0 to {most}")
    frozen = {name for name, number in stages.items() if number <= count}
    parameters = dict(model.named_parameters())
    for name in frozen:
        parameters[name].requires_grad_(False)
    modules = _whole_modules(model, frozen)
    numbers = sum(parameters[name].numel() for name in frozen)
    total = sum(parameter.numel() for parameter in parameters.values())
    return Frozen(tuple(modules.values()), tuple(modules), numbers, total)


def _whole_modules(model: nn.Module, frozen: set[str]) -> dict[str, nn.Module]:
    """Return the largest modules all of whose parameters are frozen, by name."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        names = {_join(path, name) for name, _ in module.named_parameters()}
        inside = any(path.startswith(f"{whole}.") for whole in found)
        if names and names <= frozen and not inside:
            found[path] = module
    return found


def _numbers(model: nn.Module, coarse: bool) -> dict[str, int]:
    """Return the number of the layer, or of the stage if `coarse`, of every parameter by its name, from 0."""
    matcher = getattr(model, "group_matcher", None)
    if matcher is not None:
        from timm.models import group_parameters

        numbers: Mapping[str, Any] = group_parameters(model, matcher(coarse=coarse), reverse=True)
        return {name: int(number) for name, number in numbers.items()}
    layers = _layers(model)
    groups = [names for _, names in layers]
    if coarse:
        runs = itertools.groupby(layers, key=lambda layer: layer[0])
        groups = [[name for _, names in run for name in names] for _, run in runs]
    known = dict(model.named_parameters())  # a parameter that two modules share has its first name here
    return {name: number for number, names in enumerate(groups) for name in names if name in known}


def _layers(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Return the layers of a network without `group_matcher`: path of their container, names of their parameters."""
    layers: list[tuple[str, list[str]]] = []
    before: list[str] = []  # parameters before the first layer, such as the class token of a transformer, belong to it
    for container, names, has_weights in _parts(model, "", _LARGE * sum(p.numel() for p in model.parameters())):
        if has_weights:
            layers.append((container, before + names))
            before = []
        elif layers:
            layers[-1][1].extend(names)
        else:
            before += names
    return layers


def _parts(module: nn.Module, path: str, large: float) -> Iterator[tuple[str, list[str], bool]]:
    """Yield the parts of a module that is opened: path of their container, names of parameters, whether they have weights.

    Args:
        large: a module with more parameters is opened too.
    """
    if own := [_join(path, name) for name, _ in module.named_parameters(recurse=False)]:
        yield path, own, False
    for name, child in module.named_children():
        inner = _join(path, name)
        size = sum(parameter.numel() for parameter in child.parameters())
        if isinstance(child, _CONTAINERS) or (size > large and next(child.children(), None) is not None):
            yield from _parts(child, inner, large)
        elif names := [_join(inner, parameter) for parameter, _ in child.named_parameters()]:
            yield path, names, any(map(has_weight, child.modules()))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
