"""Random changes of whole uint8 image tensors, from an explicit generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 2  # pixels that `crop_flip` may shift an image by


def augment(images: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """A changed copy of uint8 images [n, c, h, w].

    `flip` mirrors half of them left to right; `crop_flip` also shifts each by up to `PADDING` pixels, zeros coming in.
    """
    if kind == "none":
        return images
    n, _, h, w = images.shape
    flipped = torch.from_numpy(rng.random(n) < 0.5)
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    if kind == "flip":
        return images
    top, left = torch.from_numpy(rng.integers(0, 2 * PADDING + 1, (2, n)))
    padded = F.pad(images, (PADDING,) * 4)
    rows = (top[:, None] + torch.arange(h))[:, None, :, None]
    columns = (left[:, None] + torch.arange(w))[:, None, None, :]
    index = torch.arange(n)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[index, channel, rows, columns]


def mixup_weight(alpha: float, rng: np.random.Generator) -> float:
    """Weight of the first image, from Beta(alpha, alpha); 1 when `alpha` is 0 (no mixing)."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0
