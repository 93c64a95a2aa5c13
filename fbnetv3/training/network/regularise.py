"""Dropout and stochastic depth in a network that exists already, custom modules included.

Where a network has no place for them, hooks apply them. Hooks add no parameter and no key to the state dict, do nothing in
eval mode, and survive `copy.deepcopy`, pickle, the moving average and `torch.compile`.

Limits: a conversion that replaces modules, such as torch's to SyncBatchNorm, loses hooks unless it runs in `hooks_kept`.
TorchScript accepts no hooks; rates of 0 remove them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from fbnetv3.errors import InputError
from fbnetv3.training.network.branches import find_branches
from fbnetv3.training.network.dropout import DropInput, put_dropout
from fbnetv3.training.network.regularised_model import RegularisedModel
from fbnetv3.training.network.stochastic_depth import DropBranch, put_stochastic_depth


def apply_regularisation(
    model: nn.Module, dropout: float = 0.0, stochastic_depth: float = 0.0, strict: bool = False
) -> RegularisedModel:
    """Put dropout and stochastic depth into a model, in place. Another call replaces the rates.

    Rates of 0 remove the hooks of an earlier call and switch off the model's own dropout and stochastic depth.

    Args:
        dropout: rate before the classifier, in [0, 1).
        stochastic_depth: rate that the last block would have, in [0, 1); it grows linearly with depth.
        strict: raise an error where a rate above 0 cannot be applied. Otherwise the result says so.

    Raises:
        InputError: a rate out of range, or a rate that cannot be applied and `strict`.
    """
    for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
        # True is a number in Python; NaN fails the comparison.
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 <= rate < 1.0:
            raise InputError(f"{name} is {rate!r}; allowed: 0 <= {name} < 1")
    # Once for both: the classifier is looked for outside of branches.
    found = find_branches(model)
    words, notes = put_dropout(model, dropout, found)
    depth_words, depth_notes = put_stochastic_depth(model, stochastic_depth, found)
    name = type(model).__name__
    return RegularisedModel(model, name, words, depth_words, (*notes, *depth_notes)).checked(strict)


@contextlib.contextmanager
def hooks_kept(model: nn.Module) -> Iterator[None]:
    """Move the hooks of modules that are replaced inside the block to the modules that take their names."""
    before = dict(model.named_modules())
    yield
    for name, module in model.named_modules():
        old = before.get(name, module)
        if old is not module:  # replaced inside the block
            for hook in old._forward_hooks.values():
                if isinstance(hook, DropBranch):
                    module.register_forward_hook(hook)
            for pre_hook in old._forward_pre_hooks.values():
                if isinstance(pre_hook, DropInput):
                    module.register_forward_pre_hook(pre_hook)
