"""Stochastic depth in any network: its residual branches are dropped per sample in training, and kept ones scaled up.

Branch i of n, counted from 0 in the order in which the modules were registered, has the rate `stochastic_depth * i / n`.
Where every block has one branch, this is the rule of `fbnetv3.model`. If the network has modules for it (named
`StochasticDepth` or `DropPath`), they get the rate. Every other branch gets a forward hook on its last module.

The samples must be the first axis of a branch. (The argument `batch_first` of torch's attention is respected.)
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fbnetv3.layers import InvertedResidual
from fbnetv3.model import FBNetV3
from fbnetv3.training.network.branches import Branches, rate_attribute
from fbnetv3.training.network.regularised_model import NOT_APPLIED, few


class DropBranch:
    """Forward hook that drops a module's output per sample in training mode; of several outputs, the first."""

    def __init__(self, rate: float, axis: int = 0) -> None:
        self.rate, self.axis = rate, axis

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Zero random samples along `axis`, and scale the others up so that the mean stays the same."""
        if not module.training:
            return output
        return (self._drop(output[0]), *output[1:]) if isinstance(output, tuple) else self._drop(output)

    @classmethod
    def remove_from(cls, module: nn.Module) -> None:
        """Remove this kind of hook from a module and leave all others."""
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, cls)]:
            del module._forward_hooks[key]

    def _drop(self, output: Tensor) -> Tensor:
        # One draw for each sample, spread over all other axes.
        shape = [1] * output.dim()
        shape[self.axis] = output.shape[self.axis]
        return output * output.new_empty(shape).bernoulli_(1.0 - self.rate).div_(1.0 - self.rate)


def put_stochastic_depth(model: nn.Module, rate: float, found: Branches) -> tuple[str, tuple[str, ...]]:
    """Set the stochastic depth of every residual branch. Return in words what was done, and notes."""
    for module in model.modules():
        DropBranch.remove_from(module)
    if isinstance(model, FBNetV3):
        _set_fbnetv3(model, rate)
        return ("off" if rate == 0 else f"{rate:g}, set on the model's own blocks"), ()
    # Hooks of an earlier call are gone, so this call decides alone.
    count, set_modules = len(found.ends), 0
    for i, (name, axis) in enumerate(found.ends.items()):
        module, branch_rate = model.get_submodule(name), rate * i / count
        if attribute := rate_attribute(module):
            set_modules += 1
            setattr(module, attribute, branch_rate)
        elif branch_rate > 0:  # a hook with a rate of 0 would only cost time
            module.register_forward_hook(DropBranch(branch_rate, axis))
    if rate == 0:
        return "off", ()
    notes = [f"sums left alone, no branch told from a shortcut: {few(found.left)}"] if found.left else []
    if found.untraced:
        notes.append(f"modules whose forward cannot be traced: {few(found.untraced)}")
    if count < 2:  # a single branch is the first one, whose rate is 0
        return f"{NOT_APPLIED}: {('no', 'only one')[count]} residual branch found", tuple(notes)
    hooked = count - set_modules
    parts = [f"wrapper on {hooked} residual branches"] if hooked else []
    parts += [f"set on {set_modules} stochastic depths of the model"] if set_modules else []
    largest = max(stochastic_depth_rates(model).values())
    return f"{rate:g}, {', '.join(parts)} (linear in depth up to {largest:.3g})", tuple(notes)


def stochastic_depth_rates(model: nn.Module) -> dict[str, float]:
    """Return the rate of every module whose output is dropped, by the module's name: hooked ones and the model's own."""
    rates = {}
    for name, module in model.named_modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, DropBranch):
                rates[name] = hook.rate
        if attribute := rate_attribute(module):
            rates[name] = float(getattr(module, attribute) or 0.0)  # timm's DropPath may hold None
    return rates


def _set_fbnetv3(model: FBNetV3, rate: float) -> None:
    """Set the rates by the rule of `fbnetv3.model`, which also counts the blocks without a residual branch."""
    blocks = [block for stage in model.stages.children() for block in stage.children()]
    for i, block in enumerate(blocks):
        if isinstance(block, InvertedResidual) and block.residual:
            block.drop.rate = rate * i / len(blocks)
