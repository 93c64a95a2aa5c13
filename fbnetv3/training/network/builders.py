"""Networks by name from this package, timm, torchvision or a custom callable, with dropout and stochastic depth.

A constructor gets both rates where it has arguments for them and they mean the same here. Some constructors accept an
argument and ignore it (torchvision's ConvNeXt `dropout`, its MobileNetV3 `stochastic_depth_prob`). The built model is
therefore searched for what the argument did, and what is missing is put in afterwards. With the model's own arguments the
depth rule is the model's too: timm's and torchvision's are also linear in depth, most of them up to the full rate in the last
block; a few of timm's are constant.
"""

from __future__ import annotations

import importlib
import inspect
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.training.network.branches import find_branches
from fbnetv3.training.network.dropout import TIMM_RATE, find_classifier, is_timm, put_dropout
from fbnetv3.training.network.regularise import apply_regularisation
from fbnetv3.training.network.regularised_model import RegularisedModel
from fbnetv3.training.network.resnets import RESNETS, build_resnet
from fbnetv3.training.network.stochastic_depth import put_stochastic_depth, stochastic_depth_rates

CUSTOM = "custom"  # source of a network that is a callable of the user's
# The argument `dropout` of torchvision's models is the one before the classifier, but of these families the one in blocks.
_DROPOUT_IN_BLOCKS = ("vit_", "swin_")


class ModelRequest(NamedTuple):
    """A network to build: its name within its source, and what its constructor gets."""

    name: str
    num_classes: int
    in_chans: int
    dropout: float
    stochastic_depth: float
    arguments: dict[str, Any]  # more arguments of the constructor


def _build_fbnetv3(request: ModelRequest) -> RegularisedModel:
    if request.name in RESNETS:
        resnet = build_resnet(request.name, request.num_classes, request.in_chans, **request.arguments)
        return apply_regularisation(resnet, request.dropout, request.stochastic_depth)
    model = build_model(
        request.name,
        request.num_classes,
        request.in_chans,
        request.dropout,
        request.stochastic_depth,
        **request.arguments,
    )
    return _regularised(model, request, "dropout", "stochastic_depth")


def _build_timm(request: ModelRequest) -> RegularisedModel:
    import timm

    arguments = {"model_name": request.name, "num_classes": request.num_classes, "in_chans": request.in_chans}
    rates = {TIMM_RATE: request.dropout, "drop_path_rate": request.stochastic_depth}
    model, taken = _construct(timm.create_model, arguments | request.arguments, rates)
    return _regularised(model, request, taken.get(TIMM_RATE), taken.get("drop_path_rate"))


def _build_torchvision(request: ModelRequest) -> RegularisedModel:
    import torchvision

    arguments: dict[str, Any] = {"weights": None, "num_classes": request.num_classes}
    notes: tuple[str, ...] = ()
    if request.name in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
        notes = ("without its auxiliary classifiers, so that it returns logits alone",)
    # torchvision's networks differ in the arguments that they have, so both are offered and what is refused is left out.
    rates = {"dropout": request.dropout, "stochastic_depth_prob": request.stochastic_depth}
    if request.name.startswith(_DROPOUT_IN_BLOCKS):
        del rates["dropout"]
    make = torchvision.models.get_model_builder(request.name)
    model, taken = _construct(make, arguments | request.arguments, rates)
    if request.in_chans != 3:
        notes = (*notes, _change_stem(model, request.in_chans))
    built = _regularised(model, request, taken.get("dropout"), taken.get("stochastic_depth_prob"))
    return replace(built, notes=(*notes, *built.notes))


def _build_custom(request: ModelRequest) -> RegularisedModel:
    module, _, attribute = request.name.partition(":")
    offered = {"num_classes": request.num_classes, "in_chans": request.in_chans}
    try:
        make = operator.attrgetter(attribute)(importlib.import_module(module))
        signature = inspect.signature(make)
        given = {key: value for key, value in offered.items() if key in signature.parameters} | request.arguments
        # Checked apart from the call: a TypeError inside the user's code is a bug of that code, not a wrong argument.
        signature.bind(**given)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        hint = "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
        raise InputError(f"no model {request.name!r} ({error}); {hint}") from error
    model = make(**given)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{request.name} returned a {type(model).__name__}, not a torch.nn.Module; correct the callable"
        )
    built = apply_regularisation(model, request.dropout, request.stochastic_depth)
    ignored = (f"{request.name} has no argument {key}: the callable decides" for key in offered if key not in given)
    return replace(built, notes=(*ignored, *built.notes))


BUILDERS: dict[str, Callable[[ModelRequest], RegularisedModel]] = {
    "fbnetv3": _build_fbnetv3,
    "timm": _build_timm,
    "torchvision": _build_torchvision,
    CUSTOM: _build_custom,
}


def _construct(
    make: Callable[..., nn.Module], arguments: dict[str, Any], rates: dict[str, float]
) -> tuple[nn.Module, dict[str, str]]:
    """Call `make` with those of the rates that it accepts. Return the model and the names of these rates."""
    taken = dict(rates)
    while True:
        try:
            return make(**arguments, **taken), {key: key for key in taken}
        except TypeError as error:
            # Trying is the only way: most constructors pass **kwargs on, so a signature shows nothing. The message is
            # "unexpected keyword argument", or "multiple values for keyword argument" where a preset fixes the value.
            refused = [key for key in taken if f"'{key}'" in str(error)]
            if "keyword argument" not in str(error) or not refused:
                raise
            for key in refused:
                del taken[key]


def _regularised(
    model: nn.Module, request: ModelRequest, dropout: str | None, stochastic_depth: str | None
) -> RegularisedModel:
    """Check in the built model what its arguments did, and put in what is missing.

    Args:
        dropout: name of the constructor's argument that got the rate; None if there is none.
        stochastic_depth: likewise.
    """
    found = find_branches(model)
    notes: tuple[str, ...] = ()
    words = f"{request.dropout:g}, the model's argument {dropout}" if request.dropout else "off"
    _, head_dropouts = find_classifier(model, found)
    # timm's models keep the rate in an attribute or in a dropout of a custom class; other models have dropout modules.
    if is_timm(model):
        dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        shown = request.dropout in (getattr(model, TIMM_RATE, None), *dropouts)
    else:
        shown = bool(head_dropouts) and all(module.p == request.dropout for module in head_dropouts.values())
    if dropout is None or not shown:
        words, notes = put_dropout(model, request.dropout, found)
    largest = max(stochastic_depth_rates(model).values(), default=0.0)
    # The model's rule may have another largest rate, but whether there is one at all must agree with the recipe.
    if stochastic_depth is None or (largest > 0) != (request.stochastic_depth > 0):
        depth_words, depth_notes = put_stochastic_depth(model, request.stochastic_depth, found)
        return RegularisedModel(model, type(model).__name__, words, depth_words, (*notes, *depth_notes))
    depth_words = f"{request.stochastic_depth:g}, the model's argument {stochastic_depth} (up to {largest:.3g})"
    depth_words = depth_words if request.stochastic_depth else "off"
    return RegularisedModel(model, type(model).__name__, words, depth_words, notes)


def _change_stem(model: nn.Module, in_chans: int) -> str:
    """Replace the first convolution by one for `in_chans` channels, and return a note.

    torchvision's constructors know RGB images only. The new weights have the standard deviation (std) of the old ones.
    """
    if type(in_chans) is not int or in_chans < 1:
        raise InputError(f"in_chans is {in_chans!r}; allowed: whole numbers from 1")
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    shape = {key: getattr(old, key) for key in ("out_channels", "kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(in_chans, bias=old.bias is not None, **shape)
    with torch.no_grad():
        new.weight.normal_(0.0, float(old.weight.std()))
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return f"{name} replaced by one for {in_chans} channels"
