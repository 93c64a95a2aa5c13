"""Weight files that explain themselves: network, classes and preprocessing travel with the weights.

Two formats by suffix: `.safetensors` (needs the safetensors package), whose header holds the description as JSON, and
`.pt`/`.pth`, a `torch.save` of plain data and tensors. No code of a file ever runs.
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
IMAGENET = "imagenet1k"  # stands for the names of its 1000 classes
UNKNOWN = "unknown"  # in `derived_from`: nobody said where the weights come from
_KEY = "fbnetv3"  # of the description in a safetensors header
_ENTRIES = ("schema", "arch", "classes", "transforms", "derived_from")


@dataclass(frozen=True, eq=False)
class WeightFile:
    """Weights in this package's names with what it takes to use them.

    `classes` are names, or `imagenet1k` for the 1000 of ImageNet; `derived_from` names the registered weights
    (`model:source`) that they were trained from, whose licences bind them.
    """

    arch: Arch
    classes: tuple[str, ...] | str
    transforms: Transforms
    state: Mapping[str, Tensor]
    derived_from: tuple[str, ...] = ()

    @classmethod
    def from_model(cls, model: nn.Module, classes: tuple[str, ...] | str, transforms: Transforms) -> WeightFile:
        """The weights of a network of this package, which remembers what they were trained from.

        Raises:
            InputError: another network.
        """
        if not isinstance(model, FBNetV3):
            raise InputError(f"a weight file holds a network of this package, not a {type(model).__name__}")
        return cls(model.arch, classes, transforms, model.state_dict(), model.derived_from)

    def build(self) -> FBNetV3:
        """The network with these weights, in eval mode.

        Raises:
            InputError: the weights are not those of the architecture.
        """
        count = 1000 if isinstance(self.classes, str) else len(self.classes)
        model = build_model(self.arch, count, self.transforms.in_chans)
        check_state(self.state, model.state_dict(), self.arch.name)
        model.load_state_dict(dict(self.state))
        model.derived_from = self.derived_from
        return model.eval()


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Raise `InputError`, naming the differences, unless `state` has exactly the keys and shapes of `expected`."""
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


def write_weight_file(path: str | Path, file: WeightFile) -> None:
    """Write a weight file, atomically; the suffix chooses the format.

    Raises:
        InputError: another suffix, or a file that cannot be written.
    """
    header = {
        "schema": SCHEMA,
        "arch": file.arch.to_dict(),
        "classes": file.classes if isinstance(file.classes, str) else list(file.classes),
        "transforms": file.transforms.to_dict(),
        "derived_from": list(file.derived_from),
    }
    write_tensors(path, file.state, header)


def write_tensors(path: str | Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a description, as `write_weight_file` does; an empty one leaves a plain state dict."""
    tensors = {key: value.detach().contiguous() for key, value in state.items()}
    if check_suffix(path) != ".safetensors":
        save_torch(path, {**header, "state_dict": tensors} if header else tensors)
        return
    save = _safetensors("torch").save
    write_atomically(path, save(tensors, {_KEY: json.dumps(header)} if header else None))


def read_tensors(path: str | Path, trust_pickle: bool = False) -> tuple[Any, dict[str, Any] | None]:
    """What a file of weights holds, as it stands, and the description if this package wrote it.

    Args:
        trust_pickle: unpickle whatever it holds, so that code of the file may run.

    Raises:
        InputError: no such file, a damaged one, another suffix, or a pickle of more than tensors and plain data.
    """
    path = Path(path)
    if check_suffix(path) != ".safetensors":
        content = load_torch(path, "weight file", trust=trust_pickle)
        if isinstance(content, dict) and {"schema", "arch", "state_dict"} <= content.keys():
            return content["state_dict"], {key: value for key, value in content.items() if key != "state_dict"}
        return content, None
    safe_open = _safetensors().safe_open
    if not path.is_file():
        raise InputError(f"no weight file at {path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return state, json.loads(metadata[_KEY]) if _KEY in metadata else None
    except Exception as error:  # the library's own error class, OSError, JSON errors
        raise InputError(f"{path} is no weight file or is damaged ({type(error).__name__}: {error})") from error


def read_weight_file(path: str | Path) -> WeightFile:
    """Read a file that describes itself.

    Raises:
        InputError: a missing, damaged or foreign file, or a schema that this version does not read.
    """
    state, header = read_tensors(path)
    if header is None:
        raise InputError(f"{path} does not say which network it is for; give a file that fbnetv3 wrote")
    return described(state, header, path)


def described(state: Mapping[str, Tensor], header: Mapping[str, Any], path: str | Path) -> WeightFile:
    """The weight file of what `read_tensors` gave."""
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
    """Schema 1 had one mean and deviation for all channels, and no origin: those weights were trained here from scratch."""
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
    """The suffix of a weight file.

    Raises:
        InputError: another one.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a weight file ends in {', '.join(SUFFIXES)}, not in {suffix!r}")
    return suffix


def _safetensors(module: str = "") -> Any:
    """The safetensors package, which the networks do without."""
    import importlib

    try:
        return importlib.import_module("safetensors" + (f".{module}" if module else ""))
    except ImportError:
        raise InputError("a .safetensors file needs the safetensors package: pip install safetensors") from None
