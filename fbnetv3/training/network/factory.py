"""Any network, by name or as a module, with a recipe's dropout and stochastic depth in it.

This is what makes a recipe apply to any network. A constructor gets both rates where it has arguments for them and they mean
the same here. Some constructors accept an argument and ignore it (torchvision's ConvNeXt `dropout`, its MobileNetV3
`stochastic_depth_prob`). The built model is therefore searched for what the argument did, and what is missing is put in
afterwards. With the model's own arguments the depth rule is the model's too: timm's and torchvision's are also linear in depth,
most of them up to the full rate in the last block; a few of timm's are constant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from fbnetv3.errors import InputError
from fbnetv3.networks.named import CUSTOM, SOURCES, Constructed, find_network, has_network
from fbnetv3.training.network.branches import find_branches
from fbnetv3.training.network.dropout import TIMM_RATE, find_classifier, is_timm, put_dropout
from fbnetv3.training.network.regularise import apply_regularisation
from fbnetv3.training.network.regularised_model import RegularisedModel
from fbnetv3.training.network.stochastic_depth import put_stochastic_depth, stochastic_depth_rates
from fbnetv3.training.recipe import Recipe


def build(
    model: str | nn.Module,
    recipe: Recipe,
    num_classes: int | None = None,
    in_chans: int = 3,
    *,
    strict: bool = False,
    **arguments: Any,
) -> RegularisedModel:
    """Return a network with the recipe's dropout and stochastic depth.

    Args:
        model: a name or a module. Names are those of this package (`fbnetv3_a`, `resnet18_wide`, ...), `timm:NAME`,
            `torchvision:NAME`, a name without a source, which is looked up in this order, or `MODULE:CALLABLE` for a custom
            model: an importable function or class, which gets `num_classes` and `in_chans` if it has these arguments. A
            module is changed in place.
        recipe: its rates replace the model's defaults, also if they are 0.
        num_classes: required for a name. A module has its classes and channels already: `num_classes` and `in_chans` are
            not used.
        strict: raise an error where a rate above 0 cannot be applied. Otherwise the result says so.
        arguments: more arguments of the model's constructor, such as `img_size=64`.

    Raises:
        InputError: an unknown name, an argument that the model does not take, or a rate that cannot be applied and
            `strict`.
    """
    if isinstance(model, nn.Module):
        if arguments:  # they would have no effect, which the user should know
            raise InputError(f"{', '.join(arguments)} given with a module, which is built already; leave them out")
        return apply_regularisation(model, recipe.dropout, recipe.stochastic_depth, strict)
    network = find_network(model, arguments)
    if num_classes is None:
        raise InputError(f"num_classes is missing; give the number of classes for {model}")
    made = network.construct(num_classes, in_chans, recipe.dropout, recipe.stochastic_depth)
    built = _regularised(made, recipe.dropout, recipe.stochastic_depth)
    # Names such as resnet18 exist twice, with other weights and sometimes other layers: the user should know which one it is.
    given = network.source == CUSTOM or ":" in model
    others = [s for s in SOURCES if not given and s != network.source and has_network(s, network.model)]
    notes = tuple(f"{s} has a network of this name too: {s}:{network.model}" for s in others)
    return replace(built, name=network.name, notes=(*notes, *made.notes, *built.notes)).checked(strict)


def _regularised(made: Constructed, dropout: float, stochastic_depth: float) -> RegularisedModel:
    """Check in the built model what its arguments did, and put in what is missing."""
    model = made.model
    found = find_branches(model)
    notes: tuple[str, ...] = ()
    words = f"{dropout:g}, the model's argument {made.dropout}" if dropout else "off"
    _, head_dropouts = find_classifier(model, found)
    # timm's models keep the rate in an attribute or in a dropout of a custom class; other models have dropout modules.
    if is_timm(model):
        dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        shown = dropout in (getattr(model, TIMM_RATE, None), *dropouts)
    else:
        shown = bool(head_dropouts) and all(module.p == dropout for module in head_dropouts.values())
    if made.dropout is None or not shown:
        words, notes = put_dropout(model, dropout, found)
    largest = max(stochastic_depth_rates(model).values(), default=0.0)
    # The model's rule may have another largest rate, but whether there is one at all must agree with the recipe.
    if made.stochastic_depth is None or (largest > 0) != (stochastic_depth > 0):
        depth_words, depth_notes = put_stochastic_depth(model, stochastic_depth, found)
        return RegularisedModel(model, type(model).__name__, words, depth_words, (*notes, *depth_notes))
    depth_words = f"{stochastic_depth:g}, the model's argument {made.stochastic_depth} (up to {largest:.3g})"
    return RegularisedModel(model, type(model).__name__, words, depth_words if stochastic_depth else "off", notes)
