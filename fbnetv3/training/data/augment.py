"""Random changes of many uint8 images at once, drawn from an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbnetv3.errors import InputError, available
from fbnetv3.training.data.device import CPU, send

KINDS = ("none", "flip", "crop_flip", "resized_crop_flip", "autoaugment")
PADDING = 2  # largest shift of `crop_flip`, in pixels
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # resized crops: share of the image's area, width / height
TRIES = 10  # crops that are drawn to find one that fits; if none does, the largest centred crop of an allowed ratio is taken

# Changes images uint8 [k, c, h, w] on a device. The second argument, int64 [k] on the host, says which of the drawn images they
# are.
Change = Callable[[Tensor, Tensor], Tensor]


def augment(images: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """Return a changed copy of uint8 images [n, c, h, w]. With `none` the images themselves are returned.

    Args:
        kind: one of `KINDS`; `draw` describes them.

    Raises:
        InputError: there is no such kind.
    """
    return draw(kind, len(images), images.shape[2:], rng, images.device)(images, torch.arange(len(images)))


def draw(kind: str, count: int, size: tuple[int, ...], rng: np.random.Generator, device: torch.device = CPU) -> Change:
    """Draw the changes of `count` images, and return the function that applies them.

    The numbers are drawn on the host, so that they are the same on every device. The function may be called for any of the
    images, in any order. The change of an image does not depend on the images that are changed in the same call.

    Args:
        kind: `flip` mirrors half of the images left to right. `crop_flip` also shifts each image by up to `PADDING` pixels
            and fills with zeros. `resized_crop_flip` is ImageNet's random crop (area in `AREA`, ratio of the sides in
            `RATIO`), resized to the size of the image by bilinear interpolation, and mirrors half of the images.
            `autoaugment` is `crop_flip` followed by AutoAugment's policy for CIFAR-10, for images of 1 or 3 channels.
        size: height and width of the images.
        device: where the images are.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"unknown augmentation {kind!r}; {available(kind, KINDS)}")
    if kind == "none":
        return lambda images, rows: images
    if kind == "resized_crop_flip":
        return _draw_crops(count, size, rng, device)
    # The order of the draws is part of what a seed means, so it must not change.
    flipped = _drawn(rng.random(count) < 0.5, device)
    if kind == "flip":
        return lambda images, rows: _shift(images, flipped[send(rows, device)])
    corner = _drawn(rng.integers(0, 2 * PADDING + 1, (2, count)), device)

    def shift(images: Tensor, rows: Tensor) -> Tensor:
        rows = send(rows, device)
        return _shift(images, flipped[rows], *corner[:, rows])

    if kind == "crop_flip":
        return shift
    from fbnetv3.training.data import autoaugment  # late, because it imports torchvision

    codes = torch.from_numpy(autoaugment.draw_codes("cifar10", count, rng))
    return lambda images, rows: autoaugment.apply_codes(shift(images, rows), codes[rows], "cifar10")


def _drawn(numbers: np.ndarray, device: torch.device) -> Tensor:
    """Return drawn numbers on a device. They are sent once for all images."""
    return send(torch.from_numpy(numbers), device)


def mixup_weight(alpha: float, rng: np.random.Generator) -> float:
    """Return the weight of the first image, drawn from Beta(alpha, alpha), or 1 (no mixing) if `alpha` is 0."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0


def draw_boxes(count: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw random crops, as in the training of ImageNet networks: int64 [count, 4] with top, left, height, width.

    The distribution is that of torchvision's RandomResizedCrop. How many numbers are drawn does not depend on their values,
    so that all later draws are the same for every image size.
    """
    # Uniform in the area, and in the logarithm of the ratio, so that wide and tall crops are equally likely.
    area = height * width * rng.uniform(AREA[0], AREA[1], (count, TRIES))
    ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1]), (count, TRIES)))
    place = rng.random((2, count))
    sides = np.stack([np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))], axis=-1).astype(np.int64)
    most = np.array([height, width])
    # All tries are drawn at once, and the first one that fits is taken.
    fits: np.ndarray = np.all((sides > 0) & (sides <= most), axis=2)
    found: np.ndarray = np.any(fits, axis=1)[:, None]
    largest = np.minimum(most, [round(width / RATIO[0]), round(height * RATIO[1])])
    chosen = np.where(found, sides[np.arange(count), fits.argmax(axis=1)], largest)
    corner = np.where(found, np.floor(place.T * (most - chosen + 1)).astype(np.int64), (most - chosen) // 2)
    return np.concatenate([corner, chosen], axis=1)


def _draw_crops(count: int, size: tuple[int, ...], rng: np.random.Generator, device: torch.device) -> Change:
    boxes = _drawn(draw_boxes(count, size[0], size[1], rng), device)
    flipped = _drawn(rng.random(count) < 0.5, device)

    def change(images: Tensor, rows: Tensor) -> Tensor:
        rows = send(rows, device)
        return _resize_crops(images, boxes[rows], flipped[rows])

    return change


def _shift(images: Tensor, flipped: Tensor, top: Tensor | None = None, left: Tensor | None = None) -> Tensor:
    """Mirror the `flipped` images, then cut each image out of its zero-padded copy at `top` and `left`.

    The place that every pixel comes from is computed first, so that one `gather` makes both changes.
    """
    n, c, h, w = images.shape
    row, column = (torch.arange(side, device=images.device).expand(n, side) for side in (h, w))
    if top is not None and left is not None:
        images = F.pad(images, (PADDING,) * 4)
        row, column = row + top[:, None], column + left[:, None]
    column = torch.where(flipped[:, None], images.shape[3] - 1 - column, column)
    pixel = (row[:, :, None] * images.shape[3] + column[:, None, :]).view(n, 1, h * w)
    return images.reshape(n, c, -1).gather(2, pixel.expand(n, c, h * w)).view(n, c, h, w)


def _resize_crops(images: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Return each image's box, resized to the size of the image by bilinear interpolation, with its edges repeated.

    A crop only grows here, so no smoothing is needed. Interpolation along an axis is a matrix product, which works with
    another box for every image.
    """
    height, width = images.shape[2:]
    top, left, rows, columns = boxes.unbind(1)
    down = _bilinear(top, rows, height)
    across = _bilinear(left, columns, width)
    across = torch.where(flipped[:, None, None], across.flip(1), across)
    pixels = down[:, None] @ images.float() @ across.transpose(1, 2)[:, None]
    return pixels.round_().to(torch.uint8)  # interpolation cannot leave 0..255


def _bilinear(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return interpolation weights float32 [n, size, size]: row i has the weights of all pixels for pixel i of the output."""
    pixel = torch.arange(size, device=start.device)
    # The centre of output pixel i, in pixels of the crop.
    centre = ((pixel + 0.5) * (length / size)[:, None] - 0.5).clamp(min=0)
    place = start[:, None] + torch.minimum(centre, length[:, None] - 1)
    return (1 - (place[:, :, None] - pixel).abs()).clamp(min=0)
