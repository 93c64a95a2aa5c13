"""Any network by name, with a recipe's dropout and stochastic depth in it: what makes a recipe apply to anything.

A model of this package, of timm or of torchvision gets both through its own arguments, where it has them and they mean the
same; what an argument did is looked up in the model built, because some constructors take arguments and ignore them
(torchvision's ConvNeXt `dropout`, its MobileNetV3 `stochastic_depth_prob`). All else, own modules included, is
`fbnetv3.training.network.dropout`'s. The depth rule is then the model's own: timm's and torchvision's are linear in depth too,
most of them up to the full rate in the last block, a few of timm's constant.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from fbnetv3.arch import ARCHS, TABLE5, find_arch
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.training.network.dropout import (
    RegularisedModel,
    apply_regularisation,
    check_rates,
    find_classifier,
    is_timm,
    put_dropout,
    put_stochastic_depth,
    stochastic_depth_rates,
)
from fbnetv3.training.network.find_branches import find_branches
from fbnetv3.training.network.resnets import RESNETS, build_resnet

__all__ = ["SOURCES", "RegularisedModel", "apply_regularisation", "build"]

SOURCES = ("fbnetv3", "timm", "torchvision")  # in the order in which a bare name is looked up
# torchvision's `dropout` is the one before the classifier in all families but these, where it is inside the blocks.
_OTHER_DROPOUT = ("vit_", "swin_")


def build(
    name: str,
    num_classes: int,
    in_chans: int = 3,
    *,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    strict: bool = False,
    **arguments: Any,
) -> RegularisedModel:
    """A fresh network by name, with dropout and stochastic depth.

    Args:
        name: a network of this package (`fbnetv3_a`, `resnet18_wide`, ...), `timm:NAME`, `torchvision:NAME`, a bare name,
            looked up in this order, or `MODULE:CALLABLE`, an own model: an importable function or class, which gets
            `num_classes` and `in_chans` if it takes them.
        dropout: rate before the classifier, in [0, 1); replaces the model's default, also if it is 0.
        stochastic_depth: rate that the last block would have, in [0, 1), likewise; linear in depth.
        strict: raise where a rate above 0 cannot be applied; else `RegularisedModel` says so.
        arguments: further ones of the model's constructor, such as `img_size=64`.

    Raises:
        InputError: unknown name, rate out of range, an argument that the model does not take, or see `strict`.
    """
    check_rates(dropout, stochastic_depth)
    source, bare = _find(name)
    request = _ModelRequest(bare, num_classes, in_chans, dropout, stochastic_depth, arguments)
    try:
        made = _BUILDERS[source](request)
    except TypeError as error:
        if not any(f"'{key}'" in str(error) for key in arguments):
            raise
        raise InputError(f"{name} does not take an argument that was given: {error}") from error
    also = [s for s in SOURCES if ":" not in name and s != source and _has(s, bare)]
    notes = tuple(f"{s} has a network of this name too: {s}:{bare}" for s in also)
    full = bare if source == "custom" else f"{source}:{bare}"
    return replace(made, name=full, notes=(*notes, *made.notes)).checked(strict)


class _ModelRequest(NamedTuple):
    name: str
    num_classes: int
    in_chans: int
    dropout: float
    stochastic_depth: float
    arguments: dict[str, Any]


def _names(source: str) -> Iterable[str]:
    if source == "fbnetv3":
        return [*ARCHS, "fbnetv3_a0", *TABLE5, *RESNETS]
    if source == "timm":
        import timm

        return list(timm.list_models())
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def _has(source: str, name: str) -> bool:
    if source == "fbnetv3":
        with contextlib.suppress(InputError):
            return name in RESNETS or find_arch(name) is not None
        return False
    if source == "timm":
        import timm

        return bool(timm.is_model(name))
    return name in _names(source)


def _find(name: str) -> tuple[str, str]:
    """Where a network comes from, and its name there."""
    if not isinstance(name, str):
        raise InputError(f"model is {name!r}; give the name of one")
    source, colon, bare = name.partition(":")
    if colon and source not in SOURCES:
        return "custom", name
    candidates, bare = ((source,), bare) if colon else (SOURCES, name)
    for candidate in candidates:
        if _has(candidate, bare):
            return candidate, bare
    close = difflib.get_close_matches(bare, {n for s in candidates for n in _names(s)}, 5)
    hint = f"did you mean {', '.join(close)}?" if close else "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
    raise InputError(f"unknown model {bare!r} in {', '.join(candidates)}; {hint}")


def _build_fbnetv3(request: _ModelRequest) -> RegularisedModel:
    if request.name in RESNETS:
        model = build_resnet(request.name, request.num_classes, request.in_chans, **request.arguments)
        return apply_regularisation(model, request.dropout, request.stochastic_depth)
    model = build_model(
        request.name,
        request.num_classes,
        request.in_chans,
        request.dropout,
        request.stochastic_depth,
        **request.arguments,
    )
    return _finished(model, request, "dropout", "stochastic_depth")


def _build_timm(request: _ModelRequest) -> RegularisedModel:
    import timm

    arguments = {
        "model_name": request.name,
        "num_classes": request.num_classes,
        "in_chans": request.in_chans,
    } | request.arguments
    rates = {"drop_rate": request.dropout, "drop_path_rate": request.stochastic_depth}
    model, taken = _construct(timm.create_model, arguments, rates)
    return _finished(model, request, taken.get("drop_rate"), taken.get("drop_path_rate"))


def _build_torchvision(request: _ModelRequest) -> RegularisedModel:
    import torchvision

    arguments: dict[str, Any] = {"weights": None, "num_classes": request.num_classes}
    notes: tuple[str, ...] = ()
    if request.name in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
        notes = ("without its auxiliary classifiers, so that it returns logits alone",)
    rates = {"dropout": request.dropout, "stochastic_depth_prob": request.stochastic_depth}
    if request.name.startswith(_OTHER_DROPOUT):
        del rates["dropout"]
    make = torchvision.models.get_model_builder(request.name)
    model, taken = _construct(make, arguments | request.arguments, rates)
    if request.in_chans != 3:
        notes = (*notes, _change_stem(model, request.in_chans))
    made = _finished(model, request, taken.get("dropout"), taken.get("stochastic_depth_prob"))
    return replace(made, notes=(*notes, *made.notes))


def _build_custom(request: _ModelRequest) -> RegularisedModel:
    module, _, attribute = request.name.partition(":")
    offered = {"num_classes": request.num_classes, "in_chans": request.in_chans}
    try:
        make = operator.attrgetter(attribute)(importlib.import_module(module))
        signature = inspect.signature(make)
        given = {key: value for key, value in offered.items() if key in signature.parameters} | request.arguments
        signature.bind(**given)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        hint = "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
        raise InputError(f"no model {request.name!r} ({error}); {hint}") from error
    model = make(**given)
    if not isinstance(model, nn.Module):
        raise InputError(f"{request.name} gave {type(model).__name__}, not a torch.nn.Module")
    made = apply_regularisation(model, request.dropout, request.stochastic_depth)
    ignored = (f"{request.name} has no argument {key}: left to it" for key in offered if key not in given)
    return replace(made, notes=(*ignored, *made.notes))


_BUILDERS: dict[str, Callable[[_ModelRequest], RegularisedModel]] = {
    "fbnetv3": _build_fbnetv3,
    "timm": _build_timm,
    "torchvision": _build_torchvision,
    "custom": _build_custom,
}


def _construct(
    make: Callable[..., nn.Module], arguments: dict[str, Any], rates: dict[str, float]
) -> tuple[nn.Module, dict[str, str]]:
    """Call `make` with those of `rates` that it does not refuse; the model, and the names of these."""
    taken = dict(rates)
    while True:
        try:
            return make(**arguments, **taken), {key: key for key in taken}
        except TypeError as error:  # "unexpected keyword argument", or "multiple values for" where a preset fixes it
            refused = [key for key in taken if f"'{key}'" in str(error)]
            if "keyword argument" not in str(error) or not refused:
                raise
            for key in refused:
                del taken[key]


def _finished(
    model: nn.Module, request: _ModelRequest, dropout: str | None, stochastic_depth: str | None
) -> RegularisedModel:
    """Believe arguments (their names; None for one not taken) as far as the model shows them, and put in the rest."""
    found = find_branches(model)
    notes: tuple[str, ...] = ()
    words = f"{request.dropout:g}, the model's argument {dropout}" if request.dropout else "off"
    _, own = find_classifier(model, found)
    if is_timm(model):
        dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        shown = request.dropout in (getattr(model, "drop_rate", None), *dropouts)
    else:
        shown = bool(own) and all(module.p == request.dropout for module in own.values())
    if dropout is None or not shown:
        words, notes = put_dropout(model, request.dropout, found)
    rates = stochastic_depth_rates(model).values()
    largest = max(rates, default=0.0)
    if stochastic_depth is None or (largest > 0) != (request.stochastic_depth > 0):
        depth_words, depth_notes = put_stochastic_depth(model, request.stochastic_depth, found)
        return RegularisedModel(model, type(model).__name__, words, depth_words, (*notes, *depth_notes))
    depth_words = f"{request.stochastic_depth:g}, the model's argument {stochastic_depth} (up to {largest:.3g})"
    return RegularisedModel(
        model, type(model).__name__, words, depth_words if request.stochastic_depth else "off", notes
    )


def _change_stem(model: nn.Module, in_chans: int) -> str:
    """Put a first convolution for `in_chans` channels in place; its weights get the deviation that the old ones have."""
    if type(in_chans) is not int or in_chans < 1:
        raise InputError(f"in_chans is {in_chans!r}; allowed: whole numbers from 1")
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        in_chans,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        new.weight.normal_(0.0, float(old.weight.std()))
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return f"{name} replaced by one for {in_chans} channels"
