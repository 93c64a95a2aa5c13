"""Dropout before the classifier of any network.

The classifier is the last linear layer outside of residual branches, or else the last 1x1 convolution. If the model has
dropouts before it (AlexNet and VGG have two), they get the rate. Otherwise a forward pre-hook drops the classifier's input.
Dropouts elsewhere, as in attention or after dense layers, serve another purpose and keep their rates.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from fbnetv3.training.network.branches import Branches, has_weight
from fbnetv3.training.network.regularised_model import NOT_APPLIED, few

# Most of timm's models have no dropout module: they call F.dropout with the rate in this attribute.
TIMM_RATE = "drop_rate"


class DropInput:
    """Forward pre-hook that applies dropout to a module's first input in training mode."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, args: Any) -> Any:
        """Return the arguments with dropout in the first one."""
        return (F.dropout(args[0], self.rate, module.training), *args[1:])

    @classmethod
    def remove_from(cls, module: nn.Module) -> None:
        """Remove this kind of hook from a module and leave all others."""
        for key in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, cls)]:
            del module._forward_pre_hooks[key]


def put_dropout(model: nn.Module, rate: float, found: Branches) -> tuple[str, tuple[str, ...]]:
    """Set the dropout before the classifier. Return in words what was done, and notes."""
    classifier, head_dropouts = find_classifier(model, found)
    for module in model.modules():
        DropInput.remove_from(module)
    notes = [
        f"dropout {n} had the rate {m.p:g}, now {rate:g}" for n, m in head_dropouts.items() if m.p not in (0.0, rate)
    ]
    others = [n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0 and n not in head_dropouts]
    if others:
        notes.append(f"dropouts elsewhere in the model stay as they are: {few(others)}")
    for dropout in head_dropouts.values():
        dropout.p = rate
    functional = is_timm(model) and isinstance(getattr(model, TIMM_RATE, None), (int, float))
    if functional:
        setattr(model, TIMM_RATE, rate)
    if rate == 0:  # only after the model's dropouts were set: they may have a rate by default
        return "off", tuple(notes)
    if head_dropouts:
        return f"{rate:g}, set on the model's own {few(list(head_dropouts))}", tuple(notes)
    if functional:
        return f"{rate:g}, set on the model's own drop_rate", tuple(notes)
    if classifier is None:
        return f"{NOT_APPLIED}: no linear classifier found", tuple(notes)
    model.get_submodule(classifier).register_forward_pre_hook(DropInput(rate))
    return f"{rate:g}, wrapper before {classifier or 'the model'}", tuple(notes)


def find_classifier(model: nn.Module, found: Branches) -> tuple[str | None, dict[str, nn.Dropout]]:
    """Return the name of the classifier, None if there is none, and the dropouts that come before it.

    Modules that share a parent with the classifier form the head, as in AlexNet's `classifier`. All others with weights are
    the body. A dropout counts if it is in the head and no layer of the body follows it. "Follows" means in the order of
    registration, which is the order of the calls in all common networks. If a layer of the body follows the classifier
    itself, it is no classifier.
    """
    modules = {name: module for name, module in model.named_modules() if id(module) not in found.inside}
    linear = [n for n, m in modules.items() if isinstance(m, nn.Linear)]
    points = [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    # Outside of branches, because the last layer of a block is no classifier. A 1x1 convolution is one in SqueezeNet.
    classifier: str | None = ([None] + (linear or points))[-1]
    dropouts: dict[str, nn.Dropout] = {}
    if classifier is None:
        return None, dropouts
    passed = False
    for name, module in model.named_modules():
        parent = name.rpartition(".")[0]
        in_head = parent == "" or classifier.startswith(parent + ".")
        passed = passed or name == classifier
        if isinstance(module, nn.Dropout) and in_head:
            dropouts[name] = module
        elif name != classifier and has_weight(module) and not (in_head and isinstance(module, nn.Linear)):
            if passed:
                return None, {}
            dropouts.clear()  # a layer of the body follows, so these dropouts were not the last ones
    return classifier, dropouts


def is_timm(model: nn.Module) -> bool:
    """Whether the model's class is timm's, or derived from one of timm's."""
    return any(cls.__module__.startswith("timm.") for cls in type(model).__mro__)
