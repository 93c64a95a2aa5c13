"""From the name of weights to a network that has them: a registered source, a path or a URL."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import ARCHS, Arch, find_arch
from fbnetv3.errors import InputError, Note
from fbnetv3.hub.convert import convert, is_released
from fbnetv3.hub.download import cache_path, fetch
from fbnetv3.hub.registry import Registry, Weights, read_registry
from fbnetv3.model import build_model
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD, Transforms
from fbnetv3.weight_file import IMAGENET, UNKNOWN, WeightFile, described, read_tensors


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: bool = True,
    zoo: str | Path | None = None,
    **kwargs: Any,
) -> nn.Module:
    """A network of the zoo, with weights if asked for.

    Args:
        name: a model of the registry (`fbnetv3_a` .. `fbnetv3_g`), any name that `build_model` knows, or one of `zoo`.
        pretrained: take the model's first registered weights, for A..G `fb`: the released ones, CC BY-NC 4.0.
        weights: which weights instead: a registered source (`fb`, `timm_ra2`), a path, or a URL; of the released code, of
            timm or of this package, as .pth or .safetensors. timm's weights of fbnetv3_b give `fbnetv3_b_same_padding`.
        num_classes: by default those of the weights, else 1000; a head of another size starts afresh, with a warning.
        in_chans: by default those of the weights, else 3; the stem of the weights is adapted to others: its channels are
            summed up for 1, else taken in turn and rescaled.
        progress: show a download.
        zoo: folder of an own zoo instead of the package's registry.
        kwargs: dropout, stochastic_depth, global_pool, features_only, out_indices, as `build_model` takes them.

    Raises:
        InputError: unknown name or source, a file that cannot be had, or one that does not fit the network.
    """
    registry = read_registry(zoo)
    if not pretrained and weights is None:
        arch, classes, channels = _arch(name, registry), 1000, 3
        file = None
    else:
        file = load_weights(name, weights, registry, progress)
        arch, classes, channels = file.arch, len(file.state["classifier.weight"]), file.transforms.in_chans
    model: nn.Module = build_model(arch, _or(num_classes, classes), _or(in_chans, channels), **kwargs)
    if file is not None:
        fill(model, file)
    return model


def load_weights(
    model: str | Arch | None,
    weights: str | Path | None = None,
    registry: Registry | None = None,
    progress: bool = True,
    trust_pickle: bool = False,
) -> WeightFile:
    """Weights in this package's names with their architecture, classes and preprocessing.

    A file that does not describe itself gets the preprocessing of the registered weights of its architecture (else its
    resolution and ImageNet's mean and deviation), and ImageNet's classes if it has 1000, else numbers.

    Args:
        model: name or architecture; None if the file describes itself.
        weights: a registered source, a path or a URL; None is the model's first registered source.
        trust_pickle: load a path's or URL's file even if it is a pickle that can run code.

    Raises:
        InputError: unknown name or source, a file that cannot be had, or one that does not fit the model.
    """
    registry = registry or read_registry()
    text = str(weights) if weights is not None else None
    if isinstance(model, str) and (text is None or text in {row.source for row in registry.rows}):
        return _registered(registry.find(model, text), progress)
    if text is None:
        raise InputError("no weights given; give a registered source, a path or a URL")
    if "://" in text:
        path = fetch(text, cache_path(text), progress=progress)
    elif not Path(text).exists() and Path(text).suffix == "" and Path(text).name == text:
        known = sorted({row.source for row in registry.rows})
        raise InputError(f"no weights {text!r}; give one of {', '.join(known)}, a path or a URL")
    else:
        path = Path(text)
    return _read(path, _arch(model, registry) if isinstance(model, str) else model, registry, text, trust_pickle)


def _read(path: Path, arch: Arch | None, registry: Registry, origin: str, trust_pickle: bool = False) -> WeightFile:
    """A file of weights of `arch`, which may be None if the file describes itself."""
    try:
        content, header = read_tensors(path, trust_pickle)
        if header is not None:
            file = described(content, header, path)
            if arch not in (None, file.arch):
                raise InputError(
                    f"{path} holds the weights of {file.arch.name}, another network than {arch.name}; "
                    "give the matching files"
                )
        elif arch is None:
            raise InputError(f"{path} does not say which network it is for; name the model too")
        else:
            state, built = convert(content, arch)
            file = WeightFile(
                built, _classes(state), _transforms(built, state, registry), state, _origins(content, arch, registry)
            )
    except InputError as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        hint = f"; {origin} served it: delete it and its .sha256 to download it again" if "://" in origin else ""
        raise InputError(message + hint) from None
    if arch not in (None, file.arch):
        _note_variant(str(path), file.arch)
    return file


def fill(model: nn.Module, file: WeightFile) -> None:
    """Load weights into a network of their architecture that may have other classes, channels, or only some layers.

    A classifier of another size keeps its fresh weights, with a warning; the stem is adapted to the channels.
    """
    target = model.state_dict()
    state = {key: value for key, value in file.state.items() if key in target}
    stem = "stem.conv.weight"
    if state[stem].shape[1] != target[stem].shape[1]:
        state[stem] = adapt_stem(state[stem], target[stem].shape[1])
    other = [key for key, value in state.items() if value.shape != target[key].shape]
    if other:
        was, now = (tensors["classifier.weight"].shape[0] for tensors in (file.state, target))
        warnings.warn(
            f"the classifier of the weights has {was} classes, not {now}: it starts afresh", Note, stacklevel=3
        )
    model.load_state_dict({**target, **{key: value for key, value in state.items() if key not in other}})
    model.derived_from = file.derived_from  # type: ignore[assignment]


def adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """Stem weights [c, i, k, k] for another number of channels, so that grey or repeated ones give what colour gave.

    One channel gets the sum over all; more get them in turn, rescaled by i / in_chans.
    """
    given = weight.shape[1]
    if in_chans == 1:
        return weight.sum(1, keepdim=True)
    turns = torch.arange(in_chans) % given
    return weight[:, turns] * (given / in_chans)


def fetch_registered(row: Weights, progress: bool = True) -> Path:
    """The file of registered weights, downloaded unless it is there, and checked; a non-commercial licence is said once."""
    if row.noncommercial:
        _say_licence(row.source, row.licence)
    return fetch(row.url, row.path, row.sha256, progress)


def _registered(row: Weights, progress: bool) -> WeightFile:
    file = _read(fetch_registered(row, progress), row.arch, read_registry(), row.url)
    if file.arch != row.arch:
        raise InputError(f"{row.url} serves weights of {file.arch.name}, not of {row.arch.name}")
    if row.arch != ARCHS.get(row.model, row.arch):
        _note_variant(row.id, row.arch)
    return WeightFile(row.arch, row.classes, row.transforms, file.state, (*row.derived_from, row.id))


def _origins(content: Any, arch: Arch, registry: Registry) -> tuple[str, ...]:
    """A file that does not describe itself: the released code's keys mean the released weights, as far as one can know."""
    row = registry.by_id(f"{arch.name}:fb")
    return (row.id,) if row is not None and is_released(content) else (UNKNOWN,)


def _note_variant(weights: str, arch: Arch) -> None:
    warnings.warn(f"{weights} holds the weights of another function: building {arch.name}", Note, stacklevel=5)


@functools.cache
def _say_licence(source: str, licence: str) -> None:
    """Once in a process."""
    warnings.warn(f"the weights {source!r} are licensed {licence}: not for commercial use", Note, stacklevel=5)


def _arch(name: str, registry: Registry) -> Arch:
    rows = registry.of(name)
    return rows[0].arch if rows else find_arch(name)


def _classes(state: Mapping[str, Tensor]) -> tuple[str, ...] | str:
    """Names for a file that gives none: ImageNet's if there are as many, else numbers."""
    count = len(state["classifier.weight"])
    return IMAGENET if count == 1000 else tuple(map(str, range(count)))


def _transforms(arch: Arch, state: Mapping[str, Tensor], registry: Registry) -> Transforms:
    """For a file that gives none: those of the registered weights of this architecture, else the field's usual ones."""
    channels = state["stem.conv.weight"].shape[1]
    for row in registry.rows:
        if row.arch == arch and row.transforms.in_chans == channels:
            return row.transforms
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    return Transforms(arch.resolution, arch.resolution, mean, std)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
