"""Dropout and stochastic depth in a network that is there, own modules included, and in words what was done.

Where the network has no place of its own for them, hooks do it: they add no parameter, change no key of the state dict and
nothing in eval mode, and go along with `copy.deepcopy`, pickle, the averaged copy and `torch.compile`.

**Dropout** is the one before the classifier, the last linear layer outside of residual branches (else the last 1x1
convolution). Dropouts that the model has there (AlexNet's and VGG's two) are the model's own, and get the rate; else the
classifier's input is dropped. Dropouts elsewhere (in attention, after dense layers) are another thing and stay.

**Stochastic depth** drops residual branches (`find_branches`) per sample, in training, and scales the kept ones
up. Branch i of n, counted from 0 in the order in which the modules were registered, has the rate `stochastic_depth * i / n`:
where a block has one branch that is `fbnetv3.model`'s rule. A model's own stochastic depths (modules named
`StochasticDepth` or `DropPath`) get the rate, other branches a hook on their last module.

Limits: the first axis of a branch must be the samples (the `batch_first` of torch's attention is heeded); a conversion
that replaces modules, as torch's to SyncBatchNorm does, loses hooks unless it runs in `hooks_kept`; TorchScript takes no
hooks (rates of 0 remove them).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fbnetv3.errors import InputError
from fbnetv3.model import FBNetV3
from fbnetv3.training.network.find_branches import Branches, find_branches, has_weight, own_rate

NOT_APPLIED = "not applied"


@dataclass(frozen=True, eq=False)
class RegularisedModel:
    """A model, and in words how dropout and stochastic depth got into it ("off" for a rate of 0)."""

    model: nn.Module
    name: str  # "timm:resnet50"; of an own module its class
    dropout: str
    stochastic_depth: str
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for could be applied."""
        return not any(words.startswith(NOT_APPLIED) for words in (self.dropout, self.stochastic_depth))

    def summary(self) -> str:
        """A few lines: the model, both regularisers, what else is to know."""
        rows = {"model": self.name, "dropout": self.dropout, "stochastic depth": self.stochastic_depth}
        lines = [f"{key}: {value}" for key, value in rows.items()]
        return "\n".join((*lines, *(f"note: {note}" for note in self.notes)))

    def checked(self, strict: bool) -> RegularisedModel:
        """Itself; raises InputError if `strict` and not complete."""
        if strict and not self.complete:
            raise InputError(f"the recipe cannot be applied as it stands:\n{self.summary()}")
        return self


class DropBranch:
    """Forward hook that drops a module's output, of several the first, per sample while the module is in training mode."""

    def __init__(self, rate: float, axis: int = 0) -> None:
        self.rate, self.axis = rate, axis

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Zero random samples along `axis` and scale the others up, so that the mean stays."""
        if not module.training:
            return output
        return (self._drop(output[0]), *output[1:]) if isinstance(output, tuple) else self._drop(output)

    def _drop(self, output: Tensor) -> Tensor:
        shape = [1] * output.dim()
        shape[self.axis] = output.shape[self.axis]
        return output * output.new_empty(shape).bernoulli_(1.0 - self.rate).div_(1.0 - self.rate)


class DropInput:
    """Forward pre-hook: dropout of a module's first input while the module is in training mode."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, args: Any) -> Any:
        """The arguments with the first one dropped."""
        return (F.dropout(args[0], self.rate, module.training), *args[1:])


def apply_regularisation(
    model: nn.Module, dropout: float = 0.0, stochastic_depth: float = 0.0, strict: bool = False
) -> RegularisedModel:
    """Put dropout and stochastic depth into a model in place; calling it again replaces the rates.

    With both at 0 it takes out all that it put in and switches off the model's own.

    Args:
        dropout: rate before the classifier, in [0, 1).
        stochastic_depth: rate that the last block would have, in [0, 1).
        strict: raise where a rate above 0 cannot be applied; else `RegularisedModel` says so.

    Raises:
        InputError: rate out of range, or see `strict`.
    """
    check_rates(dropout, stochastic_depth)
    found = find_branches(model)
    words, notes = put_dropout(model, dropout, found)
    depth_words, depth_notes = put_stochastic_depth(model, stochastic_depth, found)
    return RegularisedModel(model, type(model).__name__, words, depth_words, (*notes, *depth_notes)).checked(strict)


def check_rates(dropout: float, stochastic_depth: float) -> None:
    """Raise InputError for a rate that is not in [0, 1)."""
    for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 <= rate < 1.0:
            raise InputError(f"{name} is {rate!r}; allowed: 0 <= {name} < 1")


def stochastic_depth_rates(model: nn.Module) -> dict[str, float]:
    """Name of a module to the rate with which its output is dropped: hooks, and the model's own stochastic depths."""
    rates = {}
    for name, module in model.named_modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, DropBranch):
                rates[name] = hook.rate
        if attribute := own_rate(module):
            rates[name] = float(getattr(module, attribute) or 0.0)
    return rates


@contextlib.contextmanager
def hooks_kept(model: nn.Module) -> Iterator[None]:
    """Carry the hooks of submodules that are replaced inside over to those that take their names."""
    before = dict(model.named_modules())
    yield
    for name, module in model.named_modules():
        old = before.get(name, module)
        if old is not module:
            for hook in old._forward_hooks.values():
                if isinstance(hook, DropBranch):
                    module.register_forward_hook(hook)
            for pre_hook in old._forward_pre_hooks.values():
                if isinstance(pre_hook, DropInput):
                    module.register_forward_pre_hook(pre_hook)


def put_dropout(model: nn.Module, rate: float, found: Branches) -> tuple[str, tuple[str, ...]]:
    """Set or hook the dropout before the classifier; what was done, and notes."""
    classifier, own = find_classifier(model, found)
    for module in model.modules():
        _unhook(module._forward_pre_hooks, DropInput)
    notes = [f"dropout {n} had the rate {m.p:g}, now {rate:g}" for n, m in own.items() if m.p not in (0.0, rate)]
    others = [n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0 and n not in own]
    if others:
        notes.append(f"dropouts elsewhere in the model stay as they are: {_few(others)}")
    for dropout in own.values():
        dropout.p = rate
    functional = is_timm(model) and isinstance(getattr(model, "drop_rate", None), (int, float))
    if functional:  # what timm's functional dropouts read
        model.drop_rate = rate  # type: ignore[assignment]
    if rate == 0:
        return "off", tuple(notes)
    if own:
        return f"{rate:g}, set on the model's own {_few(list(own))}", tuple(notes)
    if functional:
        return f"{rate:g}, set on the model's own drop_rate", tuple(notes)
    if classifier is None:
        return f"{NOT_APPLIED}: no linear classifier found", tuple(notes)
    model.get_submodule(classifier).register_forward_pre_hook(DropInput(rate))
    return f"{rate:g}, wrapper before {classifier or 'the model'}", tuple(notes)


def put_stochastic_depth(model: nn.Module, rate: float, found: Branches) -> tuple[str, tuple[str, ...]]:
    """Set or hook the stochastic depth of every residual branch; what was done, and notes."""
    for module in model.modules():
        _unhook(module._forward_hooks, DropBranch)
    if isinstance(model, FBNetV3):
        _set_fbnetv3(model, rate)
        return ("off" if rate == 0 else f"{rate:g}, set on the model's own blocks"), ()
    own = 0
    for i, (name, axis) in enumerate(found.ends.items()):
        module, of_branch = model.get_submodule(name), rate * i / len(found.ends)
        if attribute := own_rate(module):
            own += 1
            setattr(module, attribute, of_branch)
        elif of_branch > 0:
            module.register_forward_hook(DropBranch(of_branch, axis))
    if rate == 0:
        return "off", ()
    notes = [f"sums left alone, no branch told from a shortcut: {_few(found.left)}"] if found.left else []
    if found.untraced:
        notes.append(f"modules whose forward cannot be traced: {_few(found.untraced)}")
    if len(found.ends) < 2:  # a single one is the first, with rate 0
        return f"{NOT_APPLIED}: {('no', 'only one')[len(found.ends)]} residual branch found", tuple(notes)
    hooked = len(found.ends) - own
    parts = [f"wrapper on {hooked} residual branches"] if hooked else []
    parts += [f"set on {own} stochastic depths of the model"] if own else []
    return f"{rate:g}, {', '.join(parts)} ({range_of_rates(model)})", tuple(notes)


def range_of_rates(model: nn.Module) -> str:
    """In words, the largest rate that a branch has."""
    return f"linear in depth up to {max(stochastic_depth_rates(model).values()):.3g}"


def find_classifier(model: nn.Module, found: Branches) -> tuple[str | None, dict[str, nn.Dropout]]:
    """The classifier's name, and the dropouts before it: none of the body's layers follows in the order of registration.

    A module is of the head if its parent holds the classifier too, as AlexNet's `classifier` does; all others are the body,
    which must not follow the classifier either.
    """
    modules = {name: module for name, module in model.named_modules() if id(module) not in found.inside}
    linear = [n for n, m in modules.items() if isinstance(m, nn.Linear)]
    points = [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    classifier: str | None = ([None] + (linear or points))[-1]
    dropouts: dict[str, nn.Dropout] = {}
    if classifier is None:
        return None, dropouts
    passed = False
    for name, module in model.named_modules():
        parent = name.rpartition(".")[0]
        of_head = parent == "" or classifier.startswith(parent + ".")
        passed = passed or name == classifier
        if isinstance(module, nn.Dropout) and of_head:
            dropouts[name] = module
        elif name != classifier and has_weight(module) and not (of_head and isinstance(module, nn.Linear)):
            if passed:
                return None, {}
            dropouts.clear()
    return classifier, dropouts


def is_timm(model: nn.Module) -> bool:
    """Whether the model's class is timm's or derived from one."""
    return any(cls.__module__.startswith("timm.") for cls in type(model).__mro__)


def _set_fbnetv3(model: FBNetV3, rate: float) -> None:
    """By the network's own rule, which counts the blocks without residual too."""
    blocks = [block for stage in model.stages.children() for block in stage.children()]
    for i, block in enumerate(blocks):
        if getattr(block, "residual", False):
            block.drop.rate = rate * i / len(blocks)  # type: ignore[union-attr, assignment]


def _unhook(hooks: dict[int, Any], kind: type) -> None:
    for key in [key for key, hook in hooks.items() if isinstance(hook, kind)]:
        del hooks[key]


def _few(names: list[str], most: int = 4) -> str:
    shown = ", ".join(name or "the model itself" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
