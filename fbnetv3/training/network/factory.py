"""Any network, by name or as a module, with a recipe's dropout and stochastic depth in it.

This is what makes a recipe apply to any network. The builders of named networks are in `builders`; networks that exist
already, custom modules included, are `regularise`'s work.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from fbnetv3.arch import ARCHS, TABLE5, find_arch
from fbnetv3.errors import InputError
from fbnetv3.training.network.builders import BUILDERS, CUSTOM, ModelRequest
from fbnetv3.training.network.regularise import apply_regularisation
from fbnetv3.training.network.regularised_model import RegularisedModel
from fbnetv3.training.network.resnets import RESNETS
from fbnetv3.training.recipe import Recipe

SOURCES = ("fbnetv3", "timm", "torchvision")  # in the order in which a name without a source is looked up


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
    source, name = _find(model)
    if num_classes is None:
        raise InputError(f"num_classes is missing; give the number of classes for {model}")
    request = ModelRequest(name, num_classes, in_chans, recipe.dropout, recipe.stochastic_depth, arguments)
    try:
        built = BUILDERS[source](request)
    except TypeError as error:
        # Only a TypeError about one of the arguments is the user's mistake; others are bugs and keep their traceback.
        if not any(f"'{key}'" in str(error) for key in arguments):
            raise
        raise InputError(f"{model} does not take an argument that was given: {error}") from error
    # Names such as resnet18 exist twice, with other weights and sometimes other layers: the user should know which one it is.
    others = [s for s in SOURCES if ":" not in model and s != source and _has(s, name)]
    notes = tuple(f"{s} has a network of this name too: {s}:{name}" for s in others)
    full_name = name if source == CUSTOM else f"{source}:{name}"
    return replace(built, name=full_name, notes=(*notes, *built.notes)).checked(strict)


def _find(name: str) -> tuple[str, str]:
    """Return the source of a network and the network's name in it."""
    if not isinstance(name, str):
        raise InputError(f"model is {name!r}; give the name of a network, or a torch.nn.Module")
    source, colon, bare = name.partition(":")
    if colon and source not in SOURCES:
        return CUSTOM, name  # MODULE:CALLABLE; a mistyped source shows as a module that is not there
    candidates, bare = ((source,), bare) if colon else (SOURCES, name)
    for candidate in candidates:
        if _has(candidate, bare):
            return candidate, bare
    close = difflib.get_close_matches(bare, {n for s in candidates for n in _names(s)}, 5)
    hint = f"did you mean {', '.join(close)}?" if close else "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
    raise InputError(f"unknown model {bare!r} in {', '.join(candidates)}; {hint}")


def _has(source: str, name: str) -> bool:
    if source == "fbnetv3":
        with contextlib.suppress(InputError):
            return name in RESNETS or find_arch(name) is not None
        return False
    if source == "timm":
        import timm  # late, as it takes a second and most calls do not get here

        return bool(timm.is_model(name))
    return name in _names(source)


def _names(source: str) -> Iterable[str]:
    if source == "fbnetv3":
        return [*ARCHS, "fbnetv3_a0", *TABLE5, *RESNETS]
    if source == "timm":
        import timm

        return list(timm.list_models())
    import torchvision

    # The restriction leaves out detection and segmentation networks.
    return list(torchvision.models.list_models(module=torchvision.models))
