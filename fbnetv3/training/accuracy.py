"""The accuracy of a network on a split, measured by all processes together. Every image is counted once."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn

from fbnetv3.device import tf32_units
from fbnetv3.errors import InputError
from fbnetv3.training.data.device import CPU, on_device
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.distributed import gathered, total
from fbnetv3.training.process_rank import ProcessRank


@dataclass(frozen=True)
class Accuracy:
    """Accuracies in percent.

    Attributes:
        acc1: share of the images whose label is the most probable class.
        acc5: share of the images whose label is among the five most probable classes.
        images: number of the images. It is smaller than the split if images that cannot be read are left out.
    """

    acc1: float
    acc5: float
    images: int


def final_split(data: Data) -> str:
    """Return the split that a finished training is measured on: `test`, or `val` if there are no test images."""
    try:
        return "test" if data.count("test") else "val"
    except InputError:
        return "val"


def measure(
    model: nn.Module, data: Data, split: str, process: ProcessRank | None = None, device: torch.device = CPU
) -> Accuracy:
    """Return the accuracy of `model` in eval mode, computed in full float32. Its mode is restored afterwards.

    The precision of a training has no influence, so that its accuracies can be compared with those of another, and saved
    weights give the same numbers again.

    Args:
        device: where the network is. The images are brought there.
        process: this process among those that evaluate together; None if it works alone.

    Raises:
        InputError: an image cannot be read, and such images end the run; or none can be read. All processes raise it.
    """
    process = process or ProcessRank()
    # Percentages could not be averaged over processes with unequal parts, so images and hits are counted.
    count, hits = 0, torch.zeros(2, dtype=torch.long, device=device)
    training, reason = model.training, ""
    model.eval()
    try:
        with torch.no_grad(), tf32_units(used=False):
            for x, labels in on_device(data, device).batches(split, process):
                hits += top_hits(model(x), labels)  # on the device, which nobody waits for before the last batch
                count += len(labels)
    except InputError as error:
        reason = str(error)
    model.train(training)
    # One process that raised alone would leave the others waiting for its counts.
    if reasons := [reason for reason in gathered(reason, process) if reason]:
        raise InputError(reasons[0])
    images, first, five = total([float(count), *map(float, hits.tolist())], process, device)
    if not images:
        raise InputError(f"no image of {split} can be read; repair them")
    return Accuracy(100.0 * first / images, 100.0 * five / images, int(images))


def top_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many rows of a batch have their label as the most probable class, and among the five most probable.

    Returns:
        Two counts, int64 [2], on the device of the logits.
    """
    # A network may have fewer than five classes.
    five = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return torch.stack([(logits.argmax(1) == labels).sum(), five.sum()])


def image_interval(acc1: float, images: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95% interval of an accuracy in percent, which other images of the same kind would give."""
    z, p = NormalDist().inv_cdf(0.975), acc1 / 100
    middle, half = p + z**2 / (2 * images), z * (p * (1 - p) / images + z**2 / (4 * images**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / images) for side in (-1, 1))
    return 100 * low, 100 * high
