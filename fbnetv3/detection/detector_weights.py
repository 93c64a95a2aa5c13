"""Load weights into a detector: those of a classifier into backbone and box head, or those of another detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from fbnetv3.detection.detector_parts import load_arch, load_classifier_weights
from fbnetv3.detection.detectron2_model import FBNetV3BoxHead, build_seeded
from fbnetv3.errors import InputError, quote
from fbnetv3.files import load_torch
from fbnetv3.networks.weight_file import UNKNOWN, check_finite, load_values

# What a training writes, and what a detector is loaded from.
WEIGHTS, CONFIG = "weights.pth", "config.yaml"
_COUNT = "num_batches_tracked"
PARTS = ("backbone", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor")


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: for every part of the detector the number of loaded tensors and of all its tensors.

    `unused` lists the entries of the weights that have no place in the detector.
    """

    parts: dict[str, tuple[int, int]]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """Return one line per part, and one line for the unused entries."""
        lines = [
            f"{name}: {loaded} of {total} tensors loaded"
            + (", the others keep fresh weights" if loaded < total else "")
            for name, (loaded, total) in self.parts.items()
        ]
        if self.unused:
            # Two levels of a name, such as `stages.4`, say which part of a network it is.
            tops = sorted({".".join(key.split(".")[:2]) for key in self.unused})
            lines.append(
                f"not used: {len(self.unused)} tensors of {', '.join(tops[:4])}{' ...' if len(tops) > 4 else ''}"
            )
        return "\n".join(lines)


def load_detector(cfg: CfgNode, *, strict: bool = False) -> tuple[nn.Module, LoadReport | None]:
    """Build the model of a config with weights drawn from `SEED`, and load `MODEL.WEIGHTS` if the config names any.

    Args:
        strict: see `load_into`.

    Returns:
        The model, and what was loaded; None if the config names no weights.

    Raises:
        InputError: as `build_detector` and `load_into`.
    """
    model = build_seeded(cfg)
    if not cfg.MODEL.WEIGHTS:
        return model, None
    return model, load_into(model, cfg.MODEL.FBNETV3.ARCH, cfg.MODEL.WEIGHTS, strict=strict)


def load_into(model: Any, arch_name: str, weights: str, *, strict: bool = False) -> LoadReport:
    """Load weights into a detectron2 detector and set its `derived_from`: the origins whose licences bind it.

    Args:
        arch_name: the network that the detector was built on.
        weights: a detector's file, written by a training here or by detectron2, or what `load_classifier_weights` takes.
        strict: accept only a detector's file that has all tensors. Without it a detector's file must have the backbone, and
            the tensors that are missing or have another shape, such as those of a predictor for other classes, keep
            fresh weights.

    Raises:
        InputError: no such weights, weights of another network, or with `strict` a missing tensor.
    """
    # Without `strict` a file that is no detector's may be a classifier's.
    content = read_detector(weights) if strict else _read_if_detector(weights)
    if content is not None:
        return fill_detector(model, content, weights, strict=strict)
    file = load_classifier_weights(weights, load_arch(arch_name))
    model.derived_from = file.derived_from
    return _fill(model, _rename_for(model, file.state), weights)


def fill_detector(model: Any, content: Mapping[str, Any], weights: str, *, strict: bool) -> LoadReport:
    """Load what `read_detector` returned into a detectron2 detector; see `load_into`.

    Args:
        weights: the file that it was read from, for error messages.

    Raises:
        InputError: weights of another network, or with `strict` a missing tensor.
    """
    # detectron2's files do not say what they were trained from.
    model.derived_from = tuple(content.get("derived_from", (UNKNOWN,)))
    return _fill(model, content["model"], weights, "" if strict else "backbone.")


def read_detector(path: str | Path) -> dict[str, Any]:
    """Return what a detector's file contains: its weights as `model`, and `classes` if this package wrote it.

    Raises:
        InputError: no such file, or a file without a detector.
    """
    content: dict[str, Any] = load_torch(path, "detector file", ("model",))
    # detectron2 writes the model alone.
    for key in ("classes", "derived_from"):
        if not _is_names(content.get(key) or ()):
            raise InputError(f"{path} is damaged: {key} is {quote(content[key])}; allowed: a list of names")
    if not _is_state(content["model"]):
        raise InputError(f"{path} contains no detector; give the weights.pth that a detector's training wrote")
    return content


def _is_names(value: Any) -> bool:
    """Return whether a value is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_state(value: Any) -> bool:
    """Return whether a value is a state dict."""
    return isinstance(value, Mapping) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _read_if_detector(weights: str) -> dict[str, Any] | None:
    """Return what a detector's file contains, or None if `weights` is something else."""
    path = Path(weights)
    if path.suffix not in (".pt", ".pth") or not path.is_file():
        return None
    content = load_torch(path, "weight file")
    return read_detector(weights) if isinstance(content, dict) and isinstance(content.get("model"), Mapping) else None


def _rename_for(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a classifier's weights under the names of a detector; weights without a place there keep their names."""
    bottom = getattr(model.backbone, "bottom_up", model.backbone)  # an FPN keeps the network in `bottom_up`
    places = {"backbone." if bottom is model.backbone else "backbone.bottom_up.": bottom}
    # A detector with an FPN has detectron2's box head, for which a classifier has no weights.
    if isinstance(model.roi_heads.box_head, FBNetV3BoxHead):
        places["roi_heads.box_head."] = model.roi_heads.box_head
    renamed = dict(state)
    for prefix, module in places.items():
        expected = module.state_dict()
        for key in expected.keys() & state.keys():
            renamed[prefix + key] = renamed.pop(key)
        # A frozen norm counts no batches. Its counter would otherwise be reported as unused.
        counters = [key for key in renamed if key.endswith(_COUNT) and key.replace(_COUNT, "running_var") in expected]
        for key in counters:
            del renamed[key]
    return renamed


def _fill(model: nn.Module, state: Mapping[str, Tensor], weights: str, required: str | None = None) -> LoadReport:
    """Load the tensors that fit. All tensors of the model whose names start with `required` must be among them."""
    expected = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in expected and expected[key].shape == value.shape}
    other_shape = [key for key, value in state.items() if key in expected and expected[key].shape != value.shape]
    # A backbone without its weights is surely a mistake; a predictor for other classes is the usual case.
    missing = [key for key in expected if required is not None and key.startswith(required) and key not in fitting]
    if not fitting or missing:
        reason = "no tensor fits"
        if fitting:
            reason = f"{len(missing)} tensors missing or of another shape, {', '.join(missing[:3])}"
        if other_shape:
            key = other_shape[0]
            reason += f"; {key} is {list(state[key].shape)}, not {list(expected[key].shape)}"
        raise InputError(f"{weights} does not fit this detector: {reason}; give the config that it was trained with")
    check_finite(fitting, f"the weights of {weights}")
    load_values(model, {**expected, **fitting})
    parts = {
        part: (sum(key.startswith(f"{part}.") for key in fitting), sum(key.startswith(f"{part}.") for key in expected))
        for part in PARTS
    }
    return LoadReport(parts, tuple(key for key in state if key not in expected))
