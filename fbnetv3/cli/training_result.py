"""What `fbnetv3 train` leaves behind: the weights, and their accuracy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnetv3.cli.training_plan import Plan
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fbnetv3.training.process_rank import ProcessRank

WEIGHTS = "weights.pt"


def keep_other_weights(out_dir: Path) -> None:
    """Refuse a folder with weights and no checkpoint: another command wrote them, and the training would replace them."""
    from fbnetv3.training.checkpoint import CHECKPOINT

    path = out_dir / WEIGHTS
    if path.exists() and not (out_dir / CHECKPOINT).exists():
        raise InputError(f"{path} is not of a training in this folder, and would be overwritten; give another --out")


def weights_path(plan: Plan) -> Path:
    """Return where the weights of a training are written."""
    return plan.out / WEIGHTS


def about(plan: Plan) -> dict[str, Any]:
    """Return the settings of a training that its weights and its logs tell."""
    return {"recipe": plan.recipe.to_dict(), "data": plan.spec, "seed": plan.seed}


def save_weights(model: nn.Module, plan: Plan, epochs: int, metrics: dict[str, Any]) -> Path:
    """Write the weights with a description of network, classes, preprocessing and training.

    Args:
        epochs: that were trained.
        metrics: accuracies by name; they are known only after the weights were saved once.
    """
    from fbnetv3.networks.weight_file import WeightFile, write_weight_file

    path = weights_path(plan)
    training = about(plan) | {"epochs": epochs, "metrics": metrics}
    file = WeightFile.of(model, plan.data.classes, plan.data.transforms, plan.network, training)
    write_weight_file(path, file)
    return path


def measured(
    model: nn.Module, plan: Plan, weights: Path, limit: int | None, process: ProcessRank, device: str
) -> dict[str, Any]:
    """Return the accuracy of the trained network on the final split, and how many images were left out, if any.

    Raises:
        InputError: an image cannot be read. The message has the command that measures the saved weights.
    """
    import torch

    from fbnetv3.networks.named import CUSTOM
    from fbnetv3.training.accuracy import final_split, measure

    split = final_split(plan.data)
    try:
        accuracy = measure(model, plan.data, split, process, torch.device(device))
    except InputError as error:
        command = ["fbnetv3", "evaluate", str(weights), "--data", plan.spec]
        if plan.network is not None and plan.network.source == CUSTOM:  # its code runs only if it is named
            command += ["--model", plan.network.name]
        command += [] if limit is None else ["--limit", str(limit)]
        raise InputError(
            f"{error}. The training is finished and its weights are in {weights}. Measure them again with: "
            f"{shlex.join(command)}"
        ) from None
    row: dict[str, Any] = {f"{split}_acc1": accuracy.acc1, f"{split}_acc5": accuracy.acc5}
    if left := _left_out(plan.data, process):
        row["left_out"] = left
    return row


def _left_out(data: Any, process: ProcessRank) -> dict[str, int]:
    """Return how many images of each split could not be read, over all processes."""
    from fbnetv3.training.distributed import gathered

    parts = gathered({split: set(met) for split, met in data.bad.met.items()}, process)
    splits = dict.fromkeys(split for part in parts for split in part)
    return {split: count for split in splits if (count := len(set().union(*(p.get(split, ()) for p in parts))))}


def memory_advice(error: Exception, device: str) -> str:
    """Say that a device has too little memory, and what needs less of it."""
    reason = str(error).partition(". ")[0]
    return (
        f"the training needs more memory than {device} has ({reason}); give a larger --accumulate, which computes a batch in "
        "parts, --precision bf16, smaller images, or a smaller batch: --set batch_size=N"
    )
