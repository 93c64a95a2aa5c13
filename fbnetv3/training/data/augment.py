"""Random changes of whole uint8 image tensors, from an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbnetv3.errors import InputError

KINDS = ("none", "flip", "crop_flip", "resized_crop_flip", "autoaugment")
PADDING = 2  # pixels that `crop_flip` may shift an image by
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of resized crops: share of the image, width / height
TRIES = 10  # to find such a crop inside the image; then the largest centred one of an allowed ratio

Change = Callable[[Tensor, Tensor], Tensor]  # (images uint8 [k, c, h, w], which of the drawn ones int64 [k]) to changed


def augment(images: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """A changed copy of uint8 images [n, c, h, w]; `none` gives back the images themselves.

    Raises:
        InputError: no such kind.
    """
    return draw(kind, len(images), images.shape[2:], rng)(images, torch.arange(len(images)))


def draw(kind: str, count: int, size: tuple[int, ...], rng: np.random.Generator) -> Change:
    """Draw the changes of `count` images of height and width `size`, to be made later, of any of them in any order.

    What becomes of an image does not depend on which others it is changed together with.

    Args:
        kind: `flip` mirrors half of the images left to right; `crop_flip` also shifts each by up to `PADDING` pixels,
            zeros coming in; `resized_crop_flip` takes ImageNet's random crop, `AREA` of the image with sides in `RATIO`,
            back to full size by bilinear interpolation, and mirrors half of them; `autoaugment` is `crop_flip` and then
            AutoAugment's policy for CIFAR-10 (for images of 1 or 3 channels).

    Raises:
        InputError: no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"unknown augmentation {kind!r}; available: {', '.join(KINDS)}")
    if kind == "none":
        return lambda images, rows: images
    if kind == "resized_crop_flip":
        return _draw_crops(count, size, rng)
    flipped = torch.from_numpy(rng.random(count) < 0.5)
    if kind == "flip":
        return lambda images, rows: _shift(images, flipped[rows])
    top, left = torch.from_numpy(rng.integers(0, 2 * PADDING + 1, (2, count)))
    if kind == "crop_flip":
        return lambda images, rows: _shift(images, flipped[rows], top[rows], left[rows])
    from fbnetv3.training.data import autoaugment

    codes = torch.from_numpy(autoaugment.draw_codes("cifar10", count, rng))
    return lambda images, rows: autoaugment.apply_codes(
        _shift(images, flipped[rows], top[rows], left[rows]), codes[rows], "cifar10"
    )


def mixup_weight(alpha: float, rng: np.random.Generator) -> float:
    """Weight of the first image, from Beta(alpha, alpha); 1 when `alpha` is 0 (no mixing)."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0


def draw_boxes(count: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random crops of an image as ImageNet's networks are trained on: int64 [count, 4] of top, left, height, width.

    The distribution of torchvision's RandomResizedCrop, with as many numbers drawn whatever they are.
    """
    area = height * width * rng.uniform(AREA[0], AREA[1], (count, TRIES))
    ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1]), (count, TRIES)))
    place = rng.random((2, count))
    sides = np.stack([np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))], axis=-1).astype(np.int64)
    most = np.array([height, width])
    fits: np.ndarray = np.all((sides > 0) & (sides <= most), axis=2)
    found: np.ndarray = np.any(fits, axis=1)[:, None]
    whole = np.minimum(most, [round(width / RATIO[0]), round(height * RATIO[1])])
    chosen = np.where(found, sides[np.arange(count), fits.argmax(axis=1)], whole)
    corner = np.where(found, np.floor(place.T * (most - chosen + 1)).astype(np.int64), (most - chosen) // 2)
    return np.concatenate([corner, chosen], axis=1)


def _draw_crops(count: int, size: tuple[int, ...], rng: np.random.Generator) -> Change:
    boxes = torch.from_numpy(draw_boxes(count, size[0], size[1], rng))
    flipped = torch.from_numpy(rng.random(count) < 0.5)
    return lambda images, rows: _resize_crops(images, boxes[rows], flipped[rows])


def _shift(images: Tensor, flipped: Tensor, top: Tensor | None = None, left: Tensor | None = None) -> Tensor:
    """Mirror the `flipped` images, then cut each out of its zero-padded self at `top` and `left`; one read a pixel."""
    n, c, h, w = images.shape
    row, column = torch.arange(h).expand(n, h), torch.arange(w).expand(n, w)
    if top is not None and left is not None:
        images = F.pad(images, (PADDING,) * 4)
        row, column = row + top[:, None], column + left[:, None]
    column = torch.where(flipped[:, None], images.shape[3] - 1 - column, column)
    pixel = (row[:, :, None] * images.shape[3] + column[:, None, :]).view(n, 1, h * w)
    return images.reshape(n, c, -1).gather(2, pixel.expand(n, c, h * w)).view(n, c, h, w)


def _resize_crops(images: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Each image's box at the size of the image, bilinear, edges repeated; a crop only grows, so nothing is smoothed."""
    height, width = images.shape[2:]
    top, left, rows, columns = boxes.unbind(1)
    down = _bilinear(top, rows, height)
    across = _bilinear(left, columns, width)
    across = torch.where(flipped[:, None, None], across.flip(1), across)
    pixels = down[:, None] @ images.float() @ across.transpose(1, 2)[:, None]
    return pixels.round_().to(torch.uint8)


def _bilinear(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Weights float32 [n, size, size]: row i says how pixel i of the resized line is made of the line's pixels."""
    centre = ((torch.arange(size) + 0.5) * (length / size)[:, None] - 0.5).clamp(min=0)
    place = start[:, None] + torch.minimum(centre, length[:, None] - 1)
    return (1 - (place[:, :, None] - torch.arange(size)).abs()).clamp(min=0)
