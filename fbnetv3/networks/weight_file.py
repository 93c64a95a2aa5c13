"""Weight files that describe themselves: besides the weights they have the network, its classes, preprocessing and training.

There are two formats. `.safetensors` needs the safetensors package and has the description as JSON in its header. `.pt` and
`.pth` are plain data and tensors in torch's format. The suffix chooses the format of a file that is written. Of a file that is
read the content tells it: other programs have other suffixes. No code of a file runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError, quote
from fbnetv3.files import is_file, load_torch, save_torch, write_atomically
from fbnetv3.model import FBNetV3, build_model
from fbnetv3.networks.named import CUSTOM, NamedNetwork, network_from_dict, network_to_dict
from fbnetv3.schema import parse_json
from fbnetv3.transforms import Transforms

SCHEMA = 3  # 3 also describes other networks than those of this package
SUFFIXES = (".safetensors", ".pt", ".pth")
IMAGENET = "imagenet1k"  # written instead of the names of its 1000 classes
UNKNOWN = "unknown"  # in `derived_from`: the origin of the weights was not given
_KEY = "fbnetv3"  # key of the description in the header of a .safetensors file
LONGEST_KEY = 120  # of a state dict, in messages
_ENTRIES = ("schema", "arch", "classes", "transforms", "derived_from")  # since schema 3 also `training`
_ENTRIES_1 = ("arch", "classes", "in_chans", "mean", "std")  # of the description in schema 1
MOST_CHANNELS = 1_000


@dataclass(frozen=True, eq=False)
class WeightFile:
    """Weights, and everything that using them takes.

    Attributes:
        arch: the network: an architecture of this package, or the name of another network.
        classes: names of the classes, or `imagenet1k` for the 1000 classes of ImageNet. There are none if the weights have no
            classifier.
        state: of the network; of one of this package under this package's names, also without classifier, or with
            `features_only`.
        derived_from: the registered weights (`model:source`) that these were trained from. Their licences apply here too.
        training: how the weights were made, as far as it is known: `recipe`, `data`, `epochs`, `seed` and `metrics`, the
            accuracies in percent by name.
    """

    arch: Arch | NamedNetwork
    classes: tuple[str, ...] | str
    transforms: Transforms
    state: Mapping[str, Tensor]
    derived_from: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """The number of classes of the weights; 0 if they have no classifier."""
        if isinstance(self.arch, NamedNetwork):
            return 1000 if isinstance(self.classes, str) else len(self.classes)
        return len(self.state["classifier.weight"]) if "classifier.weight" in self.state else 0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        classes: tuple[str, ...] | str,
        transforms: Transforms,
        network: NamedNetwork | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> WeightFile:
        """Return the weight file of a trained network.

        Args:
            network: the name of a network that is not of this package's blocks.
            training: see the attribute.

        Raises:
            InputError: a network of another kind without its name.
        """
        if isinstance(model, FBNetV3):
            return cls(model.arch, classes, transforms, model.state_dict(), model.derived_from, training or {})
        if network is None:
            raise InputError(
                f"a {type(model).__name__} is no network of this package, so a weight file of it needs its name; give "
                'network=find_network("timm:NAME"), or save its state dict'
            )
        return cls(network, classes, transforms, model.state_dict(), getattr(model, "derived_from", ()), training or {})

    @property
    def blocks(self) -> Arch:
        """The architecture of a network of this package.

        Raises:
            InputError: the weights are of another network.
        """
        if isinstance(self.arch, NamedNetwork):
            raise InputError(
                f"the weights are of {self.arch.name}; this works with networks of this package's blocks, such as fbnetv3_a"
            )
        return self.arch

    def build(self) -> nn.Module:
        """Return the network with these weights, in eval mode. The code of a custom network runs.

        Raises:
            InputError: the weights do not fit the network, or are not finite.
        """
        # The description of a damaged file may ask for more memory than there is. A custom network may need numbers.
        if not (isinstance(self.arch, NamedNetwork) and self.arch.source == CUSTOM):
            with torch.device("meta"):
                check_state(self.state, self._new().state_dict(), self.arch.name)
        model = self._new()
        check_state(self.state, model.state_dict(), self.arch.name)
        # Other networks may hold infinities elsewhere than in their parameters, in a mask for example.
        names = self.state if isinstance(self.arch, Arch) else [name for name, _ in model.named_parameters()]
        check_finite({name: self.state[name] for name in names}, f"the weights of {self.arch.name}")
        load_values(model, self.state)  # keys and shapes fit: the check above explains differences better than torch
        model.derived_from = self.derived_from  # type: ignore[assignment]
        model.transforms = self.transforms  # type: ignore[assignment]
        return model.eval()

    def _new(self) -> nn.Module:
        count = 1000 if isinstance(self.classes, str) else len(self.classes)  # a text means ImageNet
        if isinstance(self.arch, NamedNetwork):
            return self.arch.construct(count, self.transforms.in_chans).model
        return build_model(self.arch, count, self.transforms.in_chans)


def load_values(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict into a network, on whatever device the network is.

    Raises:
        InputError: the network is on the meta device, where torch would load nothing and say nothing.
    """
    if any(value.is_meta for value in model.state_dict().values()):
        raise InputError(
            "the network is on the meta device, which holds no numbers, so weights cannot be loaded into it; build it outside "
            "of torch.device('meta'), or without weights"
        )
    model.load_state_dict(dict(state))


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Check that a state dict has exactly the keys and shapes of `expected`, and types that fit.

    Args:
        name: the network, for the message.

    Raises:
        InputError: it has not. The message names the first differences.
    """
    _refuse(name, "whose key is no text", [quote(key) for key in state if not isinstance(key, str)])
    _refuse(name, "missing", [key for key in expected if key not in state])
    _refuse(name, "unexpected", [key for key in state if key not in expected])
    pairs = {key: (state[key], value) for key, value in expected.items()}
    shapes = {key: (list(value.shape), list(like.shape)) for key, (value, like) in pairs.items()}
    _refuse(
        name,
        "of another shape",
        [f"{key} is {has}, not {needs}" for key, (has, needs) in shapes.items() if has != needs],
    )
    # Torch would cast them without a word: of complex numbers the real part, of whole numbers any value.
    kinds = [f"{key} is {_kind(value)}" for key, (value, like) in pairs.items() if not _fits(value, like)]
    _refuse(name, "of another type", kinds)


def _refuse(name: str, what: str, keys: Sequence[str]) -> None:
    """Raise `InputError` if there are such keys."""
    if keys:
        raise InputError(f"not a state dict of {name}: {len(keys)} entries {what}: {listed(keys)}")


def listed(keys: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    shown = ", ".join(key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}..." for key in keys[:3])
    return f"{shown} and {len(keys) - 3} more" if len(keys) > 3 else shown


def _fits(value: Tensor, expected: Tensor) -> bool:
    """Return whether copying `value` into a tensor of a network keeps its numbers, but for their precision."""
    if value.is_meta or value.layout != expected.layout:
        return False
    whole = not (value.is_floating_point() or value.is_complex() or value.is_quantized)
    either = value.is_floating_point() if expected.is_floating_point() else whole or value.is_floating_point()
    return value.dtype == expected.dtype or (either and not expected.is_complex())


def _is_finite(value: Tensor) -> bool:
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())  # float8 has no isfinite


def _kind(value: Tensor) -> str:
    layout = "" if value.layout == torch.strided else f" ({str(value.layout).removeprefix('torch.')})"
    return f"{str(value.dtype).removeprefix('torch.')}{layout}{' without values' if value.is_meta else ''}"


def check_finite(state: Mapping[str, Tensor], what: str) -> None:
    """Check that all numbers of a state dict are finite. With others a network computes NaN, or a class at random.

    Args:
        what: the weights, for the message.

    Raises:
        InputError: one is infinite or NaN. The message names the first tensor.
    """
    for key, value in state.items():
        if not _is_finite(value):
            raise InputError(
                f"{what} are not finite: {key} has NaN or infinite numbers, as after a training that diverged; give other "
                "weights"
            )


def write_weight_file(path: str | Path, file: WeightFile) -> None:
    """Write a weight file, atomically. The suffix chooses the format.

    Raises:
        InputError: an unknown suffix, or a file that cannot be written.
    """
    # The architecture itself, not its name: a file must be readable when names have changed.
    header = {
        "schema": SCHEMA,
        "arch": network_to_dict(file.arch),
        "classes": file.classes if isinstance(file.classes, str) else list(file.classes),
        "transforms": file.transforms.to_dict(),
        "derived_from": list(file.derived_from),
        "training": dict(file.training),
    }
    write_tensors(path, file.state, header)


def write_tensors(path: str | Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a description, as `write_weight_file` does. Without a description the file is a state dict."""
    # safetensors refuses tensors that are not contiguous, such as weights with channels last.
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    if check_suffix(path) != ".safetensors":
        save_torch(path, {**header, "state_dict": tensors} if header else tensors)
        return
    save = _safetensors("torch").save
    write_atomically(path, save(tensors, {_KEY: json.dumps(header)} if header else None))


def read_tensors(path: str | Path, trust_pickle: bool = False) -> tuple[Any, Any]:
    """Return the content of a file of weights, and its description if this package wrote the file, or None.

    Args:
        trust_pickle: load any pickle; its code runs.

    Raises:
        InputError: the file is missing or damaged, or is a pickle of more than tensors and plain data.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"no weight file at {path}: no such file; give the path of one")
    if not _is_safetensors(path):
        content = load_torch(path, "weight file", trust=trust_pickle)
        # Files of other programs have a state dict, or something that contains one.
        if isinstance(content, dict) and {"schema", "arch", "state_dict"} <= content.keys():
            return content["state_dict"], {key: value for key, value in content.items() if key != "state_dict"}
        return content, None
    safe_open = _safetensors().safe_open
    try:
        # Early versions of safetensors make tensors on the user's default device.
        with torch.device("cpu"), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # `keys` is needed: the file is no mapping and cannot be iterated.
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has its own error class; OSError is possible too
        raise InputError(
            f"{path} is no weight file or is damaged ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    return state, parse_json(metadata[_KEY], f"{path}: the description is damaged") if _KEY in metadata else None


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors does: the size of the header in 8 bytes, and the header, which is JSON."""
    try:
        with path.open("rb") as file:
            return file.read(9)[4:] == b"\0\0\0\0{"  # no header has more than 4 gigabytes
    except OSError:  # whoever reads the file says so
        return False


def read_weight_file(path: str | Path) -> WeightFile:
    """Read a weight file.

    Raises:
        InputError: the file is missing or damaged, was not written by this package, or has a schema that this version does
            not read.
    """
    state, header = read_tensors(path)
    if header is None:
        raise InputError(f"{path} does not say which network it is for; give a file that fbnetv3 wrote")
    return described(state, header, path)


def described(state: Any, header: Any, path: str | Path) -> WeightFile:
    """Return the weight file for what `read_tensors` returned.

    Args:
        path: the file that was read, for the messages.

    Raises:
        InputError: the description is incomplete, or has a schema that this version does not read.
    """
    schema = header.get("schema") if isinstance(header, dict) else header
    if type(schema) is not int or schema not in range(1, SCHEMA + 1):  # in a .pt file anything may be a tensor
        raise InputError(f"{path}: schema is {quote(schema)}; this version reads 1 to {SCHEMA}: update fbnetv3")
    for key in _ENTRIES_1 if schema == 1 else _ENTRIES:
        if key not in header:
            raise InputError(f"{path} is no weight file: it lacks {key!r}; give a file that fbnetv3 wrote")
    if schema == 1:
        header = _from_schema_1(header, path)
    classes, origins = header["classes"], header["derived_from"]
    if not (_are_texts(classes) or (isinstance(classes, str) and classes == IMAGENET)):
        raise InputError(f"{path}: classes is {quote(classes)}; allowed: a list of names, or {IMAGENET}")
    if not _are_texts(origins):
        raise InputError(f"{path}: derived_from is {quote(origins)}; allowed: a list of names of weights")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: state_dict is {quote(type(state).__name__)}; allowed: a mapping of names to tensors")
    training = header.get("training", {})
    if not isinstance(training, dict):
        raise InputError(f"{path}: training is {quote(training)}; allowed: a mapping")
    return WeightFile(
        network_from_dict(header["arch"], f"{path}: arch"),
        classes if isinstance(classes, str) else tuple(classes),
        Transforms.from_dict(header["transforms"], f"{path}: transforms"),
        state,
        tuple(origins),
        training,
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _from_schema_1(header: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Translate a description of schema 1.

    It had one mean and one std for all channels, and no origin, because all weights had been trained from scratch.
    """
    channels, side = header["in_chans"], Arch.from_dict(header["arch"], f"{path}: arch").resolution
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        raise InputError(f"{path}: in_chans is {quote(channels)}; allowed: whole numbers from 1 to {MOST_CHANNELS}")
    transforms = {"resize": side, "crop": side, "mean": [header["mean"]] * channels, "std": [header["std"]] * channels}
    return {
        "schema": SCHEMA,
        "arch": header["arch"],
        "classes": header["classes"],
        "transforms": transforms,
        "derived_from": [],
    }


def check_suffix(path: str | Path) -> str:
    """Return the suffix of a weight file that will be written.

    Raises:
        InputError: it is not the suffix of a weight file.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a weight file ends in {', '.join(SUFFIXES)}, not in {suffix!r}")
    return suffix


def _safetensors(module: str = "") -> Any:
    """Return the safetensors package or one of its modules. It is imported late because most users do not need it."""
    import importlib

    try:
        return importlib.import_module("safetensors" + (f".{module}" if module else ""))
    except ImportError:
        raise InputError("a .safetensors file needs the safetensors package: pip install safetensors") from None
