"""Weight files that describe themselves: they hold the network, the class names and the preprocessing with the weights.

The suffix chooses one of two formats. `.safetensors` needs the safetensors package and has the description as JSON in its
header. `.pt` and `.pth` are plain data and tensors in torch's format. No code of a file runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError
from fbnetv3.files import load_torch, save_torch, write_atomically
from fbnetv3.model import FBNetV3, build_model
from fbnetv3.transforms import Transforms

SCHEMA = 2
SUFFIXES = (".safetensors", ".pt", ".pth")
IMAGENET = "imagenet1k"  # written instead of the names of its 1000 classes
UNKNOWN = "unknown"  # in `derived_from`: the origin of the weights was not given
_KEY = "fbnetv3"  # key of the description in the header of a .safetensors file
_ENTRIES = ("schema", "arch", "classes", "transforms", "derived_from")


@dataclass(frozen=True, eq=False)
class WeightFile:
    """Weights under this package's names, and everything that using them takes.

    Attributes:
        classes: names of the classes, or `imagenet1k` for the 1000 classes of ImageNet.
        derived_from: the registered weights (`model:source`) that these were trained from. Their licences apply here too.
    """

    arch: Arch
    classes: tuple[str, ...] | str
    transforms: Transforms
    state: Mapping[str, Tensor]
    derived_from: tuple[str, ...] = ()

    @classmethod
    def from_model(cls, model: nn.Module, classes: tuple[str, ...] | str, transforms: Transforms) -> WeightFile:
        """Return the weight file of a trained network of this package.

        Raises:
            InputError: the model is not a network of this package.
        """
        if not isinstance(model, FBNetV3):
            raise InputError(
                f"a weight file holds a network of this package, not a {type(model).__name__}; save its state dict instead"
            )
        return cls(model.arch, classes, transforms, model.state_dict(), model.derived_from)

    def build(self) -> FBNetV3:
        """Return the network with these weights, in eval mode.

        Raises:
            InputError: the weights do not fit the architecture, or are not finite.
        """
        count = 1000 if isinstance(self.classes, str) else len(self.classes)  # a text means ImageNet
        model = build_model(self.arch, count, self.transforms.in_chans)
        check_state(self.state, model.state_dict(), self.arch.name)
        check_finite(self.state, f"the weights of {self.arch.name}")
        model.load_state_dict(dict(self.state))  # cannot fail any more: the check above explains differences better
        model.derived_from = self.derived_from
        return model.eval()


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Check that a state dict has exactly the keys and shapes of `expected`.

    Args:
        name: the network, for the message.

    Raises:
        InputError: it has not. The message names the first differences.
    """
    shapes = [
        f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    for what, keys in (
        ("missing", [key for key in expected if key not in state]),
        ("unexpected", [key for key in state if key not in expected]),
        ("of another shape", shapes),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"not a state dict of {name}: {len(keys)} entries {what}: {', '.join(keys[:3])}{more}")


def check_finite(state: Mapping[str, Tensor], what: str) -> None:
    """Check that all numbers of a state dict are finite. With others a network computes NaN, or a class at random.

    Args:
        what: the weights, for the message.

    Raises:
        InputError: one is infinite or NaN. The message names the first tensor.
    """
    for key, value in state.items():
        if not value.isfinite().all():
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
        "arch": file.arch.to_dict(),
        "classes": file.classes if isinstance(file.classes, str) else list(file.classes),
        "transforms": file.transforms.to_dict(),
        "derived_from": list(file.derived_from),
    }
    write_tensors(path, file.state, header)


def write_tensors(path: str | Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a description, as `write_weight_file` does. Without a description the file is a state dict."""
    # safetensors refuses tensors that are not contiguous, such as weights with channels last.
    tensors = {key: value.detach().contiguous() for key, value in state.items()}
    if check_suffix(path) != ".safetensors":
        save_torch(path, {**header, "state_dict": tensors} if header else tensors)
        return
    save = _safetensors("torch").save
    write_atomically(path, save(tensors, {_KEY: json.dumps(header)} if header else None))


def read_tensors(path: str | Path, trust_pickle: bool = False) -> tuple[Any, dict[str, Any] | None]:
    """Return the content of a file of weights, and its description if this package wrote the file.

    Args:
        trust_pickle: load any pickle; its code runs.

    Raises:
        InputError: the file is missing or damaged, has an unknown suffix, or is a pickle of more than tensors and plain
            data.
    """
    path = Path(path)
    if check_suffix(path) != ".safetensors":
        content = load_torch(path, "weight file", trust=trust_pickle)
        # Files of other programs have a state dict, or something that contains one.
        if isinstance(content, dict) and {"schema", "arch", "state_dict"} <= content.keys():
            return content["state_dict"], {key: value for key, value in content.items() if key != "state_dict"}
        return content, None
    safe_open = _safetensors().safe_open
    if not path.is_file():
        raise InputError(f"no weight file at {path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # `keys` is needed: the file is no mapping and cannot be iterated.
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return state, json.loads(metadata[_KEY]) if _KEY in metadata else None
    except Exception as error:  # safetensors has its own error class; OSError and JSON errors are possible too
        raise InputError(f"{path} is no weight file or is damaged ({type(error).__name__}: {error})") from error


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


def described(state: Mapping[str, Tensor], header: Mapping[str, Any], path: str | Path) -> WeightFile:
    """Return the weight file for what `read_tensors` returned.

    Args:
        path: the file that was read, for the messages.

    Raises:
        InputError: the description is incomplete, or has a schema that this version does not read.
    """
    if header.get("schema") == 1:
        header = _from_schema_1(header)
    if header.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: schema is {header.get('schema')!r}; this version reads 1 and {SCHEMA}: update fbnetv3"
        )
    for key in _ENTRIES:
        if key not in header:
            raise InputError(f"{path} is no weight file: it lacks {key!r}; give a file that fbnetv3 wrote")
    classes = header["classes"]
    if classes != IMAGENET and not isinstance(classes, list):
        raise InputError(f"{path}: classes is {classes!r}; allowed: a list of names, or {IMAGENET}")
    return WeightFile(
        Arch.from_dict(header["arch"], f"{path}: arch"),
        classes if isinstance(classes, str) else tuple(classes),
        Transforms.from_dict(header["transforms"], f"{path}: transforms"),
        state,
        tuple(header["derived_from"]),
    )


def _from_schema_1(header: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a description of schema 1.

    It had one mean and one std for all channels, and no origin, because all weights had been trained from scratch.
    """
    channels, side = header["in_chans"], header["arch"]["resolution"]
    transforms = {"resize": side, "crop": side, "mean": [header["mean"]] * channels, "std": [header["std"]] * channels}
    return {
        "schema": SCHEMA,
        "arch": header["arch"],
        "classes": header["classes"],
        "transforms": transforms,
        "derived_from": [],
    }


def check_suffix(path: str | Path) -> str:
    """Return the suffix of a weight file.

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
