"""Weights into a detector: a classifier's into trunk and box head, or a detector's own; what fitted is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fbnetv3.detection.modeling import FBNetV3BoxHead
from fbnetv3.detection.parts import classification_weights, detection_arch
from fbnetv3.errors import InputError
from fbnetv3.files import load_torch
from fbnetv3.weight_file import UNKNOWN

_COUNT = "num_batches_tracked"
PARTS = ("backbone", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor")


@dataclass(frozen=True)
class Loaded:
    """By part of the detector: tensors that were loaded, of those that it has; and entries that had no place in it."""

    parts: dict[str, tuple[int, int]]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """A line a part, and one for what was left over."""
        lines = [
            f"{name}: {taken} of {total} tensors loaded" + (", the others start afresh" if taken < total else "")
            for name, (taken, total) in self.parts.items()
        ]
        if self.unused:
            tops = sorted({".".join(key.split(".")[:2]) for key in self.unused})
            lines.append(
                f"not used: {len(self.unused)} tensors of {', '.join(tops[:4])}{' ...' if len(tops) > 4 else ''}"
            )
        return "\n".join(lines)


def load_into(model: nn.Module, arch_name: str, weights: str, *, strict: bool = False) -> Loaded:
    """Load weights into a detector built on `arch_name`, which remembers what they derive from (`derived_from`).

    Args:
        weights: of a detector, a file that training here or detectron2 wrote; of a classifier, what
            `cut.classification_weights` takes.
        strict: take a detector's only, and all of them. Else a detector's are those of the same backbone: what is missing or
            has another shape, as the predictor of other classes, starts afresh.

    Raises:
        InputError: no such weights, or of another network; `strict` and anything missing or of another shape.
    """
    found = read_detector(weights) if strict else _detector(weights)
    if found is not None:
        model.derived_from = tuple(found.get("derived_from", (UNKNOWN,)))  # type: ignore[assignment]
        return _fill(model, found["model"], weights, "" if strict else "backbone.")
    file = classification_weights(weights, detection_arch(arch_name))
    model.derived_from = file.derived_from  # type: ignore[assignment]
    return _fill(model, _renamed(model, file.state), weights)


def _renamed(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A classifier's weights under their names in the detector, those without a place there under their own."""
    bottom = getattr(model.backbone, "bottom_up", model.backbone)
    places = {"backbone." if bottom is model.backbone else "backbone.bottom_up.": bottom}
    if isinstance(model.roi_heads.box_head, FBNetV3BoxHead):
        places["roi_heads.box_head."] = model.roi_heads.box_head
    named = dict(state)
    for prefix, module in places.items():
        own = module.state_dict()
        for key in own.keys() & state.keys():
            named[prefix + key] = named.pop(key)
        for key in [key for key in named if key.endswith(_COUNT) and key.replace(_COUNT, "running_var") in own]:
            del named[key]  # a frozen norm counts no batches
    return named


def read_detector(path: str | Path) -> dict[str, Any]:
    """What a file of a detector holds: `model`, its weights, and `classes`, if this package wrote it.

    Raises:
        InputError: no such file, or one without a detector.
    """
    content: dict[str, Any] = load_torch(path, "file of a detector", ("model",))
    if not isinstance(content["model"], Mapping):
        raise InputError(f"{path} holds no detector; give the weights.pth that a training of one wrote")
    return content


def _detector(weights: str) -> dict[str, Any] | None:
    path = Path(weights)
    if path.suffix not in (".pt", ".pth") or not path.is_file():
        return None
    content = load_torch(path, "weight file")
    return content if isinstance(content, dict) and isinstance(content.get("model"), Mapping) else None


def _fill(model: nn.Module, state: Mapping[str, Tensor], weights: str, needed: str | None = None) -> Loaded:
    """Load what fits; all that begins with `needed` must."""
    own = model.state_dict()
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    other = [key for key, value in state.items() if key in own and own[key].shape != value.shape]
    missing = [key for key in own if needed is not None and key.startswith(needed) and key not in fits]
    if not fits or missing:
        what = (
            f"{len(missing)} tensors missing or of another shape, {', '.join(missing[:3])}" if fits else "nothing fits"
        )
        shapes = f"; {other[0]} is {list(state[other[0]].shape)}, not {list(own[other[0]].shape)}" if other else ""
        raise InputError(
            f"{weights} does not fit this detector: {what}{shapes}; give the config that it was trained with"
        )
    model.load_state_dict({**own, **fits})
    parts = {
        part: (sum(key.startswith(f"{part}.") for key in fits), sum(key.startswith(f"{part}.") for key in own))
        for part in PARTS
    }
    return Loaded(parts, tuple(key for key in state if key not in own))
