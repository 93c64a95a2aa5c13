"""From the name of weights to a network with these weights: a registered source, a path or a URL."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import ARCHS, Arch, find_arch
from fbnetv3.errors import InputError, available, quote
from fbnetv3.files import is_file
from fbnetv3.hub.convert import convert, is_released
from fbnetv3.hub.download import cache_path, fetch, is_downloaded
from fbnetv3.hub.notes import note
from fbnetv3.hub.registry import RegisteredWeights, Registry, read_registry
from fbnetv3.hub.state_dict import checked, unwrap
from fbnetv3.model import build_model
from fbnetv3.networks.named import CUSTOM, NamedNetwork, find_network
from fbnetv3.networks.weight_file import (
    IMAGENET,
    UNKNOWN,
    WeightFile,
    check_state,
    described,
    load_values,
    read_tensors,
)
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD, Transforms

Undescribed = Callable[[], tuple[tuple[str, ...], Transforms]]


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
    """Build a network of the zoo, and load weights into it if the caller asks for some.

    A network with weights has their preprocessing: `model(model.transforms(image)[None])` are the logits of a Pillow image.

    Args:
        name: a model of the registry (`fbnetv3_a` .. `fbnetv3_g`), a name that `build_model` knows, a model of `zoo`, or any
            network that `fbnetv3 train` can train: `timm:NAME`, `torchvision:NAME`, `MODULE:CALLABLE`.
        pretrained: load the model's first registered weights. For A..G these are `fb`, the released ones (CC BY-NC 4.0).
        weights: other weights: a registered source (`fb`, `timm_ra2`), a path or a URL. The file may have the layout of the
            released code, of timm or of this package, as torch or safetensors write it. timm's weights of fbnetv3_b
            give the network `fbnetv3_b_same_padding`.
        num_classes: the default is the number of the weights, or 1000 without weights. A classifier of another size keeps
            fresh weights, and a warning says so.
        in_chans: the default is the number of the weights, or 3 without weights. For another number the stem's weights are
            adapted, see `adapt_stem`.
        progress: show the progress of a download.
        zoo: folder of a custom zoo, which is used instead of the package's registry.
        kwargs: dropout, stochastic_depth, global_pool, features_only, out_indices, as in `build_model`; for another network
            dropout, stochastic_depth, and arguments of its constructor.

    Raises:
        InputError: an unknown name or source, a file that cannot be read or downloaded, or one that does not fit the
            network.
    """
    registry = read_registry(zoo)
    if not pretrained and weights is None:
        file, arch, classes, channels = None, _find(name, registry), 1000, 3
    else:
        known = _find(name, registry)
        if isinstance(known, Arch):
            _check_arguments(known, num_classes, in_chans, kwargs)  # before a download of minutes
        # The file decides what is built: its architecture may be a variant of the one that the name means.
        file = load_weights(name, weights, registry, progress)
        arch, classes, channels = file.arch, file.num_classes, file.transforms.in_chans
    num_classes = classes if num_classes is None else num_classes
    in_chans = channels if in_chans is None else in_chans
    model = _build(arch, num_classes, in_chans, kwargs)
    if file is not None:
        fill(model, file)
    return model


def _build(network: Arch | NamedNetwork, num_classes: int, in_chans: int, kwargs: dict[str, Any]) -> nn.Module:
    if isinstance(network, Arch):
        model: nn.Module = build_model(network, num_classes, in_chans, **kwargs)
        return model
    rates = {key: kwargs.pop(key) for key in ("dropout", "stochastic_depth") if key in kwargs}
    network = dataclasses.replace(network, arguments={**network.arguments, **kwargs})
    return network.construct(num_classes, in_chans, **rates).model


def _check_arguments(arch: Arch, num_classes: int | None, in_chans: int | None, kwargs: dict[str, Any]) -> None:
    """Raise the error that building a network with these arguments would raise."""
    classes, channels = 1000 if num_classes is None else num_classes, 3 if in_chans is None else in_chans
    if num_classes is None and not kwargs.get("global_pool", "avg"):
        classes = 0  # such a network has no classifier, and the weights may have none either
    with torch.device("meta"):  # takes no memory and no random numbers
        build_model(arch, classes, channels, **kwargs)


def load_weights(
    model: str | Arch | NamedNetwork | None,
    weights: str | Path | None = None,
    registry: Registry | None = None,
    progress: bool = True,
    trust_pickle: bool = False,
    undescribed: Undescribed | None = None,
) -> WeightFile:
    """Return weights with their network, classes and preprocessing; those of a network of this package under its own names.

    A file may lack a description. Then its preprocessing is that of the registered weights of the same architecture. Without
    such weights it is the architecture's resolution and ImageNet's mean and standard deviation (std). Its classes are
    ImageNet's if it has 1000, and numbers otherwise.

    Args:
        model: a name, an architecture, or what `find_network` returns; None if the file describes itself. The code of a custom
            network runs when it is built, so it has to be named.
        weights: a registered source, a path or a URL; None is the model's first registered source.
        registry: where names and sources are looked up; None is the package's registry.
        trust_pickle: read a file even if it is a pickle that can run code.
        undescribed: returns classes and preprocessing. It is called for a state dict of another library's network, which says
            nothing of them; without it such a file is refused.

    Raises:
        InputError: an unknown name or source, a file that cannot be read or downloaded, or one that does not fit the model.
    """
    registry = registry or read_registry()
    # A word is first taken for a source, so a file that is called like a source needs a path such as `./fb`.
    text = str(weights) if weights is not None else None
    if isinstance(model, str) and (text is None or text in {row.source for row in registry.rows}):
        return _load_registered(registry.find(model, text), registry, progress)
    if text is None:
        raise InputError("no weights given; give a registered source, a path or a URL")
    # A slip in the name is found before a download.
    arch = _find(model, registry) if isinstance(model, str) else model
    if "://" in text:
        path = fetch(text, cache_path(text), progress=progress)
    elif not is_file(text) and Path(text).suffix == "" and Path(text).name == text:
        # A bare word that is no file: the user probably meant a source.
        known = sorted({row.source for row in registry.rows})
        raise InputError(f"no weights {quote(text)}; {available(text, known, ', or a path or URL')}")
    else:
        path = Path(text)
    return _read(path, arch, registry, text, trust_pickle, undescribed)


def _read(
    path: Path,
    arch: Arch | NamedNetwork | None,
    registry: Registry,
    origin: str,
    trust_pickle: bool = False,
    undescribed: Undescribed | None = None,
) -> WeightFile:
    """Return the content of a weight file.

    Args:
        arch: the network that the weights must fit; None if the file describes itself.
        origin: the path or URL that the user gave.
    """
    try:
        content, header = read_tensors(path, trust_pickle)
        if header is not None:
            file = described(content, header, path)
            _check_network(file, arch, path)
            _check_described(file, path)
        elif arch is None:
            raise InputError(f"{path} does not say which network it is for; name the model too")
        elif isinstance(arch, NamedNetwork) and undescribed is not None:
            file = WeightFile(arch, *undescribed(), unwrap(content), (UNKNOWN,))
        elif isinstance(arch, NamedNetwork):
            raise InputError(
                f"{path} has weights alone, and does not say how many classes {arch.name} has; `fbnetv3 evaluate {path} "
                f"--model {arch.name} --data DATA` measures them on the data that they were trained on"
            )
        else:
            content = unwrap(content)
            state, built = convert(content, arch)
            classes, transforms = _default_classes(state), _default_transforms(built, state, registry)
            file = WeightFile(built, classes, transforms, state, _guess_origins(content, arch, registry))
    except InputError as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        # The file in the cache may be what a server sent in place of the weights, such as an error page. A file of the user
        # is not ours to delete.
        hint = f"; {origin} served it: delete it and its .sha256 to download it again" if is_downloaded(origin) else ""
        raise InputError(message + hint) from None
    if isinstance(arch, Arch) and arch != file.blocks:
        _note_variant(str(path), file.blocks, arch.name)
    return file


def _check_network(file: WeightFile, arch: Arch | NamedNetwork | None, path: Path) -> None:
    """Raise `InputError` if a file has another network than was asked for, or one whose code nobody asked to run."""
    has = file.arch
    if arch is None and isinstance(has, NamedNetwork) and has.source == CUSTOM:
        raise InputError(
            f"{path} has the weights of {has.name}, a network of somebody's own code, which would run; if you trust it, name "
            f"the model too: {has.name}"
        )
    same = arch.name == has.name if isinstance(arch, NamedNetwork) else arch in (None, has)
    if not same:
        raise InputError(
            f"{path} contains the weights of {has.name}, another network than {arch.name if arch else ''}; "
            "give the weights of that network, or name the other model"
        )


def _check_described(file: WeightFile, path: Path) -> None:
    """Raise `InputError` unless the weights of a file are those of the network that it describes."""
    if isinstance(file.arch, NamedNetwork):  # only the built network can tell
        return
    state = checked(file.state, file.arch)
    classes = 1000 if isinstance(file.classes, str) else len(file.classes)
    for what, has, needs in (
        ("classes", file.num_classes, classes),
        ("channels", state["stem.conv.weight"].shape[1], file.transforms.in_chans),
    ):
        if has != needs:
            raise InputError(f"{path}: the weights have {has} {what}, the description has {needs}; give another file")


def fill(model: Any, file: WeightFile) -> None:
    """Load weights into a network of their architecture, which may have other classes or channels, or only some layers.

    A classifier of another size keeps fresh weights, and a warning says so. The stem's weights are adapted to the channels.

    Raises:
        InputError: the network has layers besides the classifier that the weights lack.
    """
    if isinstance(file.arch, NamedNetwork):
        _fill_named(model, file)
        return
    target = model.state_dict()
    lacking = [key for key in target if key not in file.state and not key.startswith("classifier.")]
    if lacking:
        raise InputError(
            f"the weights end before {lacking[0]}: they were saved with features_only; give features_only=True, and "
            "out_indices of their maps if these are not all"
        )
    # A network with `features_only` or without classifier lacks some of the layers.
    state = {key: value for key, value in file.state.items() if key in target}
    stem = "stem.conv.weight"
    same_channels = state[stem].shape[1] == target[stem].shape[1]
    if not same_channels:
        state[stem] = adapt_stem(state[stem], target[stem].shape[1])
    # Only the classifier can have another shape here: the architecture is the same, and the stem was adapted.
    other_shape = [key for key, value in state.items() if value.shape != target[key].shape]
    if other_shape:
        given, built = file.num_classes, len(target["classifier.weight"])
        note(f"the classifier of the weights has {given} classes, not {built}: the classifier keeps fresh weights")
    elif "classifier.weight" in target and not file.num_classes:
        note("the weights have no classifier: the classifier keeps fresh weights")
    load_values(model, {**target, **{key: value for key, value in state.items() if key not in other_shape}})
    model.derived_from = file.derived_from
    model.transforms = file.transforms if same_channels else None  # a mean for other channels is not known


def _fill_named(model: Any, file: WeightFile) -> None:
    """Do the same for a network that this package did not build: only its classes may be others."""
    target = model.state_dict()
    other = [key for key, value in file.state.items() if key in target and value.shape != target[key].shape]
    if any(len(file.state[key]) != file.num_classes for key in other):
        other = []  # more than the classes differs: the check says what
    check_state({**file.state, **{key: target[key] for key in other}}, target, file.arch.name)
    if other:
        note(f"{', '.join(other)} of the weights are for {file.num_classes} classes, and keep fresh values")
    load_values(model, {**file.state, **{key: target[key] for key in other}})
    model.derived_from, model.transforms = file.derived_from, file.transforms


def adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """Return stem weights [c, i, k, k] for another number of input channels.

    One channel gets the sum over all channels. More channels get the given ones in turn, rescaled by i / in_chans. So an
    image with equal channels gives the same result as before, provided that the given channels are repeated completely.
    """
    given = weight.shape[1]
    # A grey image has the same value in all channels, so the sum of the weights sees what all channels saw together.
    if in_chans == 1:
        return weight.sum(1, keepdim=True)
    turns = [i % given for i in range(in_chans)]
    return weight[:, turns] * (given / in_chans)


def fetch_registered(row: RegisteredWeights, progress: bool = True) -> Path:
    """Return the path of registered weights, after a download if they are not there yet, and a check of their hash.

    The first time in a process, a warning says that a licence is non-commercial.
    """
    if row.noncommercial:
        _note_licence(row.source, row.licence)
    return fetch(row.url, row.path, row.sha256, progress)


def _load_registered(row: RegisteredWeights, registry: Registry, progress: bool) -> WeightFile:
    file = _read(fetch_registered(row, progress), row.arch, registry, row.url)
    needed = 1000 if isinstance(row.classes, str) else len(row.classes)
    if needed not in (0, file.num_classes):  # a row without classes does not say how many there are
        raise InputError(
            f"{row.url} serves weights for {file.num_classes} classes, not for {needed}; give another source"
        )
    if file.arch != row.arch:
        raise InputError(
            f"{row.url} serves weights of {file.arch.name}, not of {row.arch.name}; give another source, or a path"
        )
    # A model of a custom zoo is not in ARCHS, and its row says what it is: there is nothing to note.
    if isinstance(row.arch, Arch) and row.arch != ARCHS.get(row.model, row.arch):
        _note_variant(row.id, row.arch, row.model)
    # The row describes the file better than the file itself, which may come from other code.
    return WeightFile(row.arch, row.classes, row.transforms, file.state, (*row.derived_from, row.id), file.training)


def _guess_origins(content: Any, arch: Arch, registry: Registry) -> tuple[str, ...]:
    """Return the origins of a file without a description: the released weights if it has the released code's keys.

    Weights that somebody else trained with the released code have the same keys, but nothing in a file distinguishes them.
    """
    row = registry.by_id(f"{arch.name}:fb")
    return (row.id,) if row is not None and is_released(content) else (UNKNOWN,)


def _note_variant(weights: str, built: Arch, name: str) -> None:
    note(
        f"the weights in {weights} belong to the variant {built.name}, which computes another function than {name}; "
        "that variant is built"
    )


@functools.cache
def _note_licence(source: str, licence: str) -> None:
    """Say once in a process that a licence is non-commercial; the cache makes it once."""
    note(f"the weights {source!r} are licensed {licence}: not for commercial use")


def _find(name: str, registry: Registry) -> Arch | NamedNetwork:
    """Return the network of a model of the registry, or of another name."""
    rows = registry.rows_of(name)
    if rows:
        return rows[0].arch
    try:
        return find_arch(name)
    except InputError as unknown:
        try:
            return find_network(name)
        except InputError:
            # The names of thousands of other networks are no help, unless their library was named.
            if ":" in str(name):
                raise
            raise unknown from None


def _default_classes(state: Mapping[str, Tensor]) -> tuple[str, ...] | str:
    """Return class names for a file without them: ImageNet's if there are 1000, otherwise numbers."""
    count = len(state.get("classifier.weight", ()))
    return IMAGENET if count == 1000 else tuple(map(str, range(count)))


def _default_transforms(arch: Arch, state: Mapping[str, Tensor], registry: Registry) -> Transforms:
    """Return the preprocessing for a file without it; see `load_weights`."""
    channels = state["stem.conv.weight"].shape[1]
    for row in registry.rows:
        if row.arch == arch and row.transforms.in_chans == channels:
            return row.transforms
    # Nobody published a mean for other channels, so pixels are scaled to -1..1.
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    return Transforms(arch.resolution, arch.resolution, mean, std)
