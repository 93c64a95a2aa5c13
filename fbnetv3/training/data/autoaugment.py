"""AutoAugment (Cubuk et al. 2019) with torchvision's policies and operations, drawn from an explicit generator.

Every image gets one of 25 sub-policies at random. A sub-policy is two operations, and each is applied with its
probability. A code is one operation with its signed magnitude; code 0 is no operation. The codes of all images are drawn
first, and then all images with the same code are changed in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as TF

from fbnetv3.training.data.device import send

# torchvision's name of the operation, and its signed magnitude. A translation has its level instead: the pixels depend on the
# size of the image.
Operation = tuple[str, float]
LEVELS = 10  # magnitudes of an operation, evenly spaced from 0 to the largest one
# The largest magnitudes of the operations that work in both directions.
SIGNED = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "Rotate": 30.0,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
    "TranslateX": LEVELS - 1,
    "TranslateY": LEVELS - 1,
}
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")  # they move pixels and compute no new values
SHIFT = 150 / 331  # largest translation, as a share of the side


def draw_codes(policy: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the two operations of `count` images: codes int64 [count, 2] of a policy, `imagenet` or `cifar10`."""
    _, codes, probabilities = _tables(policy)
    chosen = rng.integers(len(codes), size=count)
    applied = rng.random((count, 2)) <= probabilities[chosen]
    sign = rng.integers(2, size=(count, 2))
    return np.where(applied, codes[chosen[:, None], np.arange(2), sign], 0)


def apply_codes(images: Tensor, codes: Tensor, policy: str) -> Tensor:
    """Return uint8 images [n, 1 or 3, h, w] changed by their codes [n, 2], as if they were changed one by one.

    The images may be on any device. The codes are on the host, which decides what is called: a device would have to be waited
    for.
    """
    operations = _tables(policy)[0]
    images = images.clone()  # they may be the data set itself
    for column in codes.unbind(1):
        found, counts = column.unique(return_counts=True)
        # Sorted by code, which is also the order of `unique`.
        rows_of = send(column.argsort(stable=True), images.device).split(counts.tolist())
        for code, rows in zip(found.tolist(), rows_of, strict=True):
            if code:
                images[rows] = _operate(images[rows], operations[code])
    return images


def _operate(images: Tensor, operation: Operation) -> Tensor:
    """Apply one operation to uint8 images [n, 1 or 3, h, w]: `operate` without waiting for their device."""
    name, magnitude = operation
    if name in GEOMETRIC:
        source = send(_sources(operation, *images.shape[2:]), images.device).expand(*images.shape[:2], -1)
        return F.pad(images.flatten(2), (1, 0)).gather(2, source).view(images.shape)
    if name == "Sharpness":
        return _sharpened(images, 1.0 + magnitude)
    changed: Tensor = operate(images, operation)
    return changed


@lru_cache(maxsize=128)
def _sources(operation: Operation, height: int, width: int) -> Tensor:
    """Return which pixel each pixel of a moved image comes from, int64 [height x width]: from 1; new pixels come from 0.

    They are computed on the host once. On a GPU, rounding would choose other pixels, and the matrix would be waited for.
    """
    pixels = torch.arange(1, height * width + 1, dtype=torch.float32)  # exact up to 2**24 pixels
    moved: Tensor = operate(pixels.view(1, 1, height, width), operation)
    return moved.long().flatten()


def _sharpened(images: Tensor, factor: float) -> Tensor:
    """Return torchvision's `adjust_sharpness`, which sends its kernel to the device, and waits, in every call."""
    out = images.float()
    inside = out[..., 1:-1, 1:-1]
    # The kernel is 5 in the middle and 1 around it, divided by 13. Whole numbers are summed, so their order does not matter.
    across = out[..., :-2] + out[..., 1:-1] + out[..., 2:]
    blurred = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    blurred = blurred.add_(inside, alpha=4).div_(13).round_()
    inside.add_(blurred.sub_(inside), alpha=1.0 - factor)
    return out.clamp_(0, 255).to(torch.uint8)


def change_image(image: Any, policy: str, rng: np.random.Generator) -> Any:
    """Draw two operations and return the Pillow image changed by them."""
    operations = _tables(policy)[0]
    for code in draw_codes(policy, 1, rng)[0]:
        image = operate(image, operations[code]) if code else image
    return image


def operate(image: Any, operation: Operation) -> Any:
    """Apply one operation to a Pillow image, or to a uint8 tensor [..., 1 or 3, h, w]. New pixels are black."""
    name, magnitude = operation
    # The others are affine maps, whose arguments depend on the size of the image.
    if name in _PLAIN:
        return _PLAIN[name](image, magnitude)
    height, width = TF.get_size(image)
    shift, shear, centre = [0, 0], [0.0, 0.0], None
    if name in ("TranslateX", "TranslateY"):
        side = width if name == "TranslateX" else height
        pixels = int(math.copysign(_level(SHIFT * side, abs(int(magnitude))), magnitude))
        shift = [pixels, 0] if name == "TranslateX" else [0, pixels]
    else:
        # As in the original: shears are about the upper left corner.
        angle, centre = math.degrees(math.atan(magnitude)), [0.0, 0.0]
        shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
    return TF.affine(image, angle=0.0, translate=shift, scale=1.0, shear=shear, center=centre)


_PLAIN: dict[str, Callable[[Any, float], Any]] = {
    "Rotate": lambda image, m: TF.rotate(image, m),
    "Brightness": lambda image, m: TF.adjust_brightness(image, 1.0 + m),
    "Color": lambda image, m: TF.adjust_saturation(image, 1.0 + m),
    "Contrast": lambda image, m: TF.adjust_contrast(image, 1.0 + m),
    "Sharpness": lambda image, m: TF.adjust_sharpness(image, 1.0 + m),
    "Posterize": lambda image, m: TF.posterize(image, int(m)),
    "Solarize": lambda image, m: TF.solarize(image, m),
    "AutoContrast": lambda image, m: TF.autocontrast(image),
    "Equalize": lambda image, m: TF.equalize(image),
    "Invert": lambda image, m: TF.invert(image),
}


@cache
def _tables(policy: str) -> tuple[tuple[Operation, ...], np.ndarray, np.ndarray]:
    """Return the operations by code, the codes [25, 2, 2] by place and sign (0 is minus), and probabilities [25, 2]."""
    rows = AutoAugment(AutoAugmentPolicy(policy)).policies
    operations: list[Operation] = [("", 0.0)]
    codes = np.zeros((len(rows), 2, 2), dtype=np.int64)
    for i, row in enumerate(rows):
        for place, (name, _, level) in enumerate(row):
            for sign in (0, 1):
                operation = (name, _magnitude(name, level) * (-1.0 if name in SIGNED and sign == 0 else 1.0))
                if operation not in operations:
                    operations.append(operation)
                codes[i, place, sign] = operations.index(operation)
    probabilities = np.array([[probability for _, probability, _ in row] for row in rows])
    return tuple(operations), codes, probabilities


def _magnitude(name: str, level: int | None) -> float:
    """Return the magnitude of a level from 0 to 9, without its sign; 0 for operations that have none."""
    if level is None:
        return 0.0
    if name == "Posterize":
        return 8.0 - round(level / ((LEVELS - 1) / 4))  # number of bits that are kept
    if name == "Solarize":
        return 255.0 - _level(255.0, level)  # brighter pixels are inverted
    return _level(SIGNED[name], level)


def _level(largest: float, level: int) -> float:
    return float(torch.linspace(0.0, largest, LEVELS)[level])
