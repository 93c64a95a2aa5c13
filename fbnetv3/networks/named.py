"""Networks that other code builds: of timm, of torchvision, this package's ResNets, and a user's own callable.

A network of this package's blocks is described by its architecture (`fbnetv3.arch.Arch`); these are described by their name.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fbnetv3.arch import ARCHS, TABLE5, Arch, find_arch
from fbnetv3.errors import InputError, quote
from fbnetv3.model import build_model
from fbnetv3.networks.resnets import RESNETS, build_resnet

SOURCES = ("fbnetv3", "timm", "torchvision")  # in the order in which a name without a source is looked up
CUSTOM = "custom"  # source of a network that is a callable of the user's
# The argument `dropout` of torchvision's models is the one before the classifier, but of these families the one in blocks.
_DROPOUT_IN_BLOCKS = ("vit_", "swin_")
NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


class Constructed(NamedTuple):
    """A new network, and the arguments of its constructor that got the rates: None where it has no such argument."""

    model: nn.Module
    dropout: str | None = None
    stochastic_depth: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedNetwork:
    """A network by its name. Make it with `find_network`.

    Attributes:
        source: one of `SOURCES`, or `CUSTOM`.
        model: the name within the source; of a custom network MODULE:CALLABLE.
        arguments: more arguments of the constructor.
    """

    source: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: NO_ARGUMENTS)

    @property
    def name(self) -> str:
        """The name with which `find_network` finds the network again, such as `timm:resnet18`."""
        return self.model if self.source == CUSTOM else f"{self.source}:{self.model}"

    def construct(
        self, num_classes: int, in_chans: int, dropout: float = 0.0, stochastic_depth: float = 0.0
    ) -> Constructed:
        """Return the network with new weights. Whether the rates arrived, and as the recipe means them, is for the caller.

        Raises:
            InputError: an argument that the constructor does not take, or a callable that is not there or returns no network.
        """
        try:
            return _CONSTRUCTORS[self.source](self, num_classes, in_chans, dropout, stochastic_depth)
        except TypeError as error:
            # Only a TypeError about one of the arguments is the user's mistake; others are bugs and keep their traceback.
            if not any(f"'{key}'" in str(error) for key in self.arguments):
                raise
            raise InputError(f"{self.name} does not take an argument that was given: {error}") from error

    def cost(self, num_classes: int, in_chans: int, side: int) -> dict[str, int]:
        """Return the multiply-adds of convolutions and linear layers on one image of `side` pixels, and all parameters."""
        return count_cost(lambda: self.construct(num_classes, in_chans).model, in_chans, side)


def count_cost(build: Callable[[], nn.Module], in_chans: int, side: int) -> dict[str, int]:
    """Return `flops`, the multiply-adds of convolutions and linear layers on one image, and `params`, all parameters.

    Args:
        build: makes the network; it is called where nothing is allocated or computed.
        side: of the image in pixels.
    """
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):  # shapes alone
        model = build().eval()
        with counter:
            model(torch.zeros(1, in_chans, side, side))
    # torch counts a multiply-add as two.
    return {"flops": counter.get_total_flops() // 2, "params": sum(p.numel() for p in model.parameters())}


def find_network(name: str, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> NamedNetwork:
    """Return the network of a name.

    Args:
        name: a name of this package (`fbnetv3_a`, `resnet18_wide`, ...), `timm:NAME`, `torchvision:NAME`, a name without a
            source, which is looked up in this order, or `MODULE:CALLABLE` for an importable function or class, which gets
            `num_classes` and `in_chans` if it has these arguments.
        arguments: more arguments of the constructor.

    Raises:
        InputError: an unknown name.
    """
    if not isinstance(name, str):
        raise InputError(f"model is {name!r}; give the name of a network, or a torch.nn.Module")
    source, colon, bare = name.partition(":")
    if colon and source not in SOURCES:
        # A mistyped source shows as a module that is not there.
        return NamedNetwork(CUSTOM, name, arguments)
    candidates, bare = ((source,), bare) if colon else (SOURCES, name)
    for candidate in candidates:
        if has_network(candidate, bare):
            return NamedNetwork(candidate, bare, arguments)
    close = difflib.get_close_matches(bare, {n for s in candidates for n in _names(s)}, 5)
    hint = f"did you mean {', '.join(close)}?" if close else "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
    raise InputError(f"unknown model {bare!r} in {', '.join(candidates)}; {hint}")


def has_network(source: str, name: str) -> bool:
    """Tell whether one of `SOURCES` has a network of this name."""
    if source == "fbnetv3":
        return name in RESNETS or arch_of(name) is not None
    if source == "timm":
        import timm  # late, as it takes a second and most calls do not get here

        return bool(timm.is_model(name))
    return name in _names(source)


def arch_of(name: str) -> Arch | None:
    """Return the architecture of a name that means one of this package, with or without its source; else None."""
    with contextlib.suppress(InputError):
        return find_arch(name.removeprefix("fbnetv3:"))
    return None


def network_to_dict(network: Arch | NamedNetwork) -> dict[str, Any]:
    """Return what describes a network in a file; `network_from_dict` reads it."""
    if isinstance(network, Arch):
        return network.to_dict()
    return {"model": network.name, "arguments": dict(network.arguments)}


def network_from_dict(data: Any, where: str) -> Arch | NamedNetwork:
    """Return the network that a file describes. Nothing is imported or built.

    Raises:
        InputError: it describes none.
    """
    if not isinstance(data, Mapping) or "model" not in data:
        return Arch.from_dict(data, where)
    name, arguments = data["model"], data.get("arguments", {})
    if not isinstance(name, str) or ":" not in name or not isinstance(arguments, Mapping):
        raise InputError(
            f"{where}: {quote(dict(data))} is no network; allowed: model: SOURCE:NAME, and arguments: a mapping"
        )
    source, _, bare = name.partition(":")
    return NamedNetwork(source, bare, arguments) if source in SOURCES else NamedNetwork(CUSTOM, name, arguments)


def _names(source: str) -> Iterable[str]:
    if source == "fbnetv3":
        return [*ARCHS, "fbnetv3_a0", *TABLE5, *RESNETS]
    if source == "timm":
        import timm

        return list(timm.list_models())
    import torchvision

    # The restriction leaves out detection and segmentation networks.
    return list(torchvision.models.list_models(module=torchvision.models))


def _of_this_package(
    network: NamedNetwork, num_classes: int, in_chans: int, dropout: float, stochastic_depth: float
) -> Constructed:
    if network.model in RESNETS:
        return Constructed(build_resnet(network.model, num_classes, in_chans, **network.arguments))
    model = build_model(network.model, num_classes, in_chans, dropout, stochastic_depth, **network.arguments)
    return Constructed(model, "dropout", "stochastic_depth")


def _of_timm(
    network: NamedNetwork, num_classes: int, in_chans: int, dropout: float, stochastic_depth: float
) -> Constructed:
    import timm

    arguments = {"model_name": network.model, "num_classes": num_classes, "in_chans": in_chans, **network.arguments}
    model, taken = _call(timm.create_model, arguments, {"drop_rate": dropout, "drop_path_rate": stochastic_depth})
    return Constructed(model, taken.get("drop_rate"), taken.get("drop_path_rate"))


def _of_torchvision(
    network: NamedNetwork, num_classes: int, in_chans: int, dropout: float, stochastic_depth: float
) -> Constructed:
    import torchvision

    arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    notes: tuple[str, ...] = ()
    if network.model in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
        notes = ("without its auxiliary classifiers, so that it returns logits alone",)
    # torchvision's networks differ in the arguments that they have, so both are offered and what is refused is left out.
    rates = {"dropout": dropout, "stochastic_depth_prob": stochastic_depth}
    if network.model.startswith(_DROPOUT_IN_BLOCKS):
        del rates["dropout"]
    make = torchvision.models.get_model_builder(network.model)
    model, taken = _call(make, {**arguments, **network.arguments}, rates)
    if in_chans != 3:
        notes = (*notes, _change_stem(model, in_chans))
    return Constructed(model, taken.get("dropout"), taken.get("stochastic_depth_prob"), notes)


def _of_the_user(
    network: NamedNetwork, num_classes: int, in_chans: int, dropout: float, stochastic_depth: float
) -> Constructed:
    module, _, attribute = network.model.partition(":")
    offered = {"num_classes": num_classes, "in_chans": in_chans}
    try:
        make = operator.attrgetter(attribute)(importlib.import_module(module))
        signature = inspect.signature(make)
        given = {key: value for key, value in offered.items() if key in signature.parameters} | dict(network.arguments)
        # Checked apart from the call: a TypeError inside the user's code is a bug of that code, not a wrong argument.
        signature.bind(**given)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        hint = "give timm:NAME, torchvision:NAME or MODULE:CALLABLE"
        raise InputError(f"no model {network.model!r} ({error}); {hint}") from error
    model = make(**given)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{network.model} returned a {type(model).__name__}, not a torch.nn.Module; correct the callable"
        )
    ignored = (f"{network.model} has no argument {key}: the callable decides" for key in offered if key not in given)
    return Constructed(model, notes=tuple(ignored))


_CONSTRUCTORS: dict[str, Callable[[NamedNetwork, int, int, float, float], Constructed]] = {
    "fbnetv3": _of_this_package,
    "timm": _of_timm,
    "torchvision": _of_torchvision,
    CUSTOM: _of_the_user,
}


def _call(
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


def _change_stem(model: nn.Module, in_chans: int) -> str:
    """Replace the first convolution by one for `in_chans` channels, and return a note.

    torchvision's constructors know RGB images only. The new weights have the standard deviation (std) of the old ones.
    """
    if type(in_chans) is not int or in_chans < 1:
        raise InputError(f"in_chans is {in_chans!r}; allowed: whole numbers from 1")
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    shape = {key: getattr(old, key) for key in ("out_channels", "kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(in_chans, bias=old.bias is not None, **shape)
    if not new.weight.is_meta:
        with torch.no_grad():
            new.weight.normal_(0.0, float(old.weight.std()))
            if new.bias is not None and old.bias is not None:
                new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return f"{name} replaced by one for {in_chans} channels"
