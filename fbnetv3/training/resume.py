"""Resuming a training from its checkpoint. Everything in the file is checked before anything is loaded.

A checkpoint is plain data that anybody may have changed. A change that would show much later, or never, is refused here.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError, quote
from fbnetv3.files import load_torch
from fbnetv3.networks.weight_file import check_state
from fbnetv3.schema import parse_json, read
from fbnetv3.training.checkpoint import CHECKPOINT, EpochMetrics, Position, State
from fbnetv3.training.data.spec import same_images
from fbnetv3.training.scaler import Scaler

logger = logging.getLogger(__name__)

# Two keys of an identity: the name of all images, and that of the images which the weights depend on.
DATA, TRAIN_DATA = "data", "train_data"
# Two keys of the machine: the kind of device, and the threads, which decide the order of sums on a CPU.
DEVICE, THREADS = "device", "threads"
_SHOWN = 3  # differences that a message shows


def resume_from(
    state: State, out: Path, identity: dict[str, Any], allowed: bool, world_size: int
) -> tuple[list[EpochMetrics], Position | None]:
    """Load the checkpoint in `out`, if there is one, into `state`.

    Args:
        allowed: whether the user wants to resume.
        world_size: number of processes.

    Returns:
        The metrics of the finished epochs, and the position in the next epoch, None for its start.

    Raises:
        InputError: there is a checkpoint and resuming is not `allowed`; it is the checkpoint of another training or another
            network; it stands within an epoch and the number of processes is another one; or it was damaged or changed.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return [], None
    if not allowed:
        raise InputError(f"{out} already holds a training; resume it, or give another folder")
    content = load_torch(path, "checkpoint", ("identity", "metrics", "model", "ema", "optimizer", "position"))
    _check_identity(parse_json(content["identity"], f"{path} is no checkpoint, or is damaged"), identity, path)
    # Whether it is the same network comes first: for another one, everything below would be wrong too.
    try:
        check_state(_mapping(content["model"], "model"), _tensors(state.model), type(state.model).__name__)
    except InputError as error:
        raise InputError(f"{path} belongs to another network ({error}); give another folder") from None
    try:
        metrics, position = _metrics(content["metrics"]), _position(content["position"])
        _check_tensors(content["model"], state.model, "model")
        if (content["ema"] is None) != (state.ema is None):
            raise InputError("there is an average of the weights only if the recipe has one")
        if state.ema is not None:
            check_state(_mapping(content["ema"], "ema"), _tensors(state.ema), "the average of the weights")
            _check_tensors(content["ema"], state.ema, "ema")
        slots = _optimizer_state(content["optimizer"], state.optimizer)
        scaler = _scaler_state(content.get("scaler"), state.scaler)
    except InputError as error:
        raise InputError(f"{path} was damaged or changed: {error}; restore it, or give another folder") from None
    # The rest of an epoch is shared out among the processes that started it; there is no generator for another one.
    if position is not None and len(position.generators) != world_size:
        raise InputError(
            f"{path} stands within an epoch of {len(position.generators)} processes, not {world_size}: resume with the same "
            "number. It may change only at the end of an epoch"
        )
    state.model.load_state_dict(content["model"])
    if state.ema is not None:
        state.ema.load_state_dict(content["ema"])
    # The settings in the groups are the recipe's, whatever the file says of them.
    state.scaler.load_state_dict(scaler)
    state.optimizer.load_state_dict({"state": slots, "param_groups": state.optimizer.state_dict()["param_groups"]})
    logger.info("resumed %s after epoch %d", path, len(metrics))
    return metrics, position


def _check_identity(saved: Any, identity: dict[str, Any], path: Path) -> None:
    if not isinstance(saved, dict):
        raise InputError(f"{path} is no checkpoint, or is damaged: its identity is {quote(saved)}, not a mapping")
    # Older versions did not write this key: their checkpoints count as written on this kind of device.
    moved = saved.get(DEVICE, identity.get(DEVICE)) != identity.get(DEVICE)
    if moved:
        logger.warning(
            "%s was written on %s, and the training continues on %s: from here on its numbers are not exactly those of an "
            "uninterrupted training",
            path,
            quote(saved[DEVICE]),
            identity.get(DEVICE),
        )
    # The keys of this version: a checkpoint that lacks one was written by an older version and cannot be trusted to agree.
    for key, value in identity.items():
        # Versions without this key named all images together, under the other key.
        if saved.get(key) == value or (key == TRAIN_DATA and key not in saved):
            continue
        if key == DEVICE or (key == THREADS and (moved or identity.get(DEVICE, "cpu") != "cpu")):
            continue  # another device is a warning, and the sums of a GPU do not depend on threads
        if key in (DATA, TRAIN_DATA) and same_images(saved.get(key), value):
            continue  # they are in another folder now
        if key == DATA and TRAIN_DATA in saved:
            logger.warning(
                "the images of val or test are not those of %s: accuracies of its epochs are of the images before", path
            )
            continue
        raise InputError(
            f"{path} belongs to another training: {_difference(key, saved.get(key), value)}; give another folder, or the "
            "old value"
        )


def _difference(key: str, old: Any, new: Any) -> str:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f"{key} was {quote(old)}, now {quote(new)}"
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = (
        f"{quote(name).strip(chr(39))} was {_value(old, name)}, now {_value(new, name)}" for name in names[:_SHOWN]
    )
    return f"{key}: {', '.join(shown)}{more}"


def _value(data: dict[str, Any], name: str) -> str:
    return quote(data[name]) if name in data else "not set"


def _metrics(rows: Any) -> list[EpochMetrics]:
    if not isinstance(rows, list):
        raise InputError(f"metrics is {quote(rows)}, not a list")
    metrics = [read(EpochMetrics, row, f"metrics of epoch {number}") for number, row in enumerate(rows, 1)]
    for number, row in enumerate(metrics, 1):
        if row.epoch != number:
            raise InputError(f"metrics of epoch {number} say that they are of epoch {row.epoch}")
    return metrics


def _position(data: Any) -> Position | None:
    if data is None:
        return None
    if not isinstance(data, dict) or data.keys() - {"device_generators"} != {"step", "losses", "generators"}:
        raise InputError(f"position is {quote(data)}; needed: step, losses and generators")
    step, losses, generators = data["step"], data["losses"], data["generators"]
    on_device = data.get("device_generators", [])
    if type(step) is not int or step < 1:
        raise InputError(f"position: step is {quote(step)}; allowed: whole numbers from 1")
    if not isinstance(losses, list) or not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        raise InputError(f"position: losses are {quote(losses)}; allowed: one number for each process")
    if not (isinstance(generators, list) and isinstance(on_device, list)) or not all(
        isinstance(state, Tensor) and state.dtype == torch.uint8 for state in (*generators, *on_device)
    ):
        raise InputError("position: the generators are no states of generators")
    if len(losses) != len(generators) or len(on_device) not in (0, len(generators)):
        raise InputError(
            f"position: {len(losses)} losses, but {len(generators)} generators; one of each for each process"
        )
    return Position(step, losses, generators, on_device)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a state dict. A module may also put other things into it."""
    return {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}


def _mapping(saved: Any, what: str) -> dict[str, Any]:
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise InputError(f"{what} is {quote(saved)}, not a state dict")
    return {key: value for key, value in saved.items() if isinstance(value, Tensor)}


def _check_tensors(saved: Mapping[str, Any], module: nn.Module, what: str) -> None:
    """Check the types of a state dict's tensors, and that their numbers are finite."""
    for key, value in _tensors(module).items():
        found = saved[key]
        if found.dtype != value.dtype or found.layout != value.layout:
            raise InputError(f"{what}: {key} is of {found.dtype}, not of {value.dtype}")
        # A network may hold infinities from its beginning, in the mask of an attention for example.
        if not found.isfinite().all() and value.isfinite().all():
            raise InputError(f"{what}: {key} holds NaN or infinity")


def _optimizer_state(saved: Any, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return what the optimizer of a checkpoint kept for each parameter, by the number of the parameter."""
    entries = saved.get("state") if isinstance(saved, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"optimizer is {quote(saved)}, not the state of an optimizer")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots = _slots(optimizer)
    for index, entry in entries.items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(entry, dict):
            raise InputError(f"optimizer: there is no parameter {quote(index)}")
        kept = {name: value for name, value in entry.items() if value is not None}
        if kept.keys() != slots.keys():
            raise InputError(f"optimizer: parameter {index} has {quote(sorted(map(str, kept)))}, not {sorted(slots)}")
        for name, value in kept.items():
            shape = parameters[index].shape if slots[name] else ()
            # Some versions of torch count steps with a number.
            tensor = torch.tensor(value) if isinstance(value, int | float) else value
            if not isinstance(tensor, Tensor) or tensor.shape != shape or tensor.is_complex() or tensor.isnan().any():
                raise InputError(f"optimizer: {name} of parameter {index} is no tensor of numbers with its shape")
    return entries


def _scaler_state(saved: Any, scaler: Scaler) -> dict[str, Any]:
    """Return the state of a gradient scaler: the checkpoint's scale, with the settings of this version."""
    if not scaler.is_enabled():
        return {}
    scale, steps = (saved.get("scale"), saved.get("_growth_tracker")) if isinstance(saved, dict) else (None, None)
    if not isinstance(scale, float) or not 0.0 < scale < math.inf or type(steps) is not int or steps < 0:
        raise InputError(f"scaler is {quote(saved)}, not the state of a gradient scaler")
    return scaler.state_dict() | {"scale": scale, "_growth_tracker": steps}


def _slots(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """Return the names of what an optimizer keeps for a parameter, and whether each has the parameter's shape."""
    # Tried out on a parameter of one number, because every optimizer has its own names.
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    arguments = inspect.signature(type(optimizer)).parameters  # timm keeps more than its arguments among the defaults
    twin = type(optimizer)([parameter], **{k: v for k, v in optimizer.defaults.items() if k in arguments})
    twin.step()
    kept = twin.state.get(parameter, {})
    return {name: isinstance(value, Tensor) and value.ndim > 0 for name, value in kept.items() if value is not None}
