"""What a detector needs on a GPU and not on the CPU: the GPU's settings, its images, and its lack of memory in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from fbnetv3.device import tf32_units
from fbnetv3.errors import InputError


@contextlib.contextmanager
def gpu_settings(device: torch.device, advice: str) -> Iterator[None]:
    """Make a GPU torch's present one inside the block, and compute float32 products there in float32. Do nothing on the CPU.

    Args:
        advice: what the user can do if the memory is not enough.

    Raises:
        InputError: the GPU has too little memory.
    """
    if device.type != "cuda":
        yield
        return
    try:
        # detectron2 waits for the present GPU, and torch would otherwise take TF32 for convolutions without a word.
        with torch.cuda.device(device), tf32_units(False):
            yield
    except torch.OutOfMemoryError:
        raise InputError(f"{device} has too little free memory; {advice}") from None


def send_images(batch: list[dict[str, Any]], device: torch.device) -> list[dict[str, Any]]:
    """Return records whose images are on their way to a GPU, so that nobody waits for the copies. On the CPU they stay."""
    if device.type != "cuda":
        return batch
    # Only from pinned memory can a GPU fetch by itself.
    return [record | {"image": record["image"].pin_memory().to(device, non_blocking=True)} for record in batch]
