"""How a picture becomes the input of a network; needs Pillow and torchvision only when a picture is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbnetv3.errors import InputError, check_keys

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Transforms:
    """Shorter side to `resize` pixels, centre crop of `crop` x `crop`, then (pixel - mean) / std with pixels in 0..1.

    One mean and deviation for every channel: one channel takes pictures as grey, three as RGB.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise InputError(f"transforms: {name} is {getattr(self, name)!r}; allowed: whole numbers from 1")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not values or not all(isinstance(v, int | float) for v in values):
                raise InputError(f"transforms: {name} is {values!r}; allowed: a number for every channel")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise InputError(f"transforms: std is {self.std}; allowed: as many positive numbers as mean has")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"transforms: interpolation is {self.interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}"
            )

    @classmethod
    def from_dict(cls, data: Any, where: str = "transforms") -> Transforms:
        """Read what `dataclasses.asdict` gives, from JSON too.

        Raises:
            InputError: unknown or missing key, or a value out of range.
        """
        fields = check_keys(data, cls, where)
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @property
    def in_chans(self) -> int:
        """Channels of the input."""
        return len(self.mean)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [..., C, H, W] to float32 of the same shape."""
        mean, std = (torch.tensor([255 * v for v in values])[:, None, None] for values in (self.mean, self.std))
        return pixels.float().sub_(mean).div_(std)

    def pixels(self, image: Any) -> Tensor:
        """A Pillow image as uint8 [C, crop, crop]; resized by Pillow, as the published accuracies were measured."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        modes: Mapping[int, str] = {1: "L", 3: "RGB"}
        if self.in_chans not in modes:
            raise InputError(
                f"a picture has 1 or 3 channels, the network takes {self.in_chans}; give it tensors instead"
            )
        image = image.convert(modes[self.in_chans])
        image = TF.resize(image, [self.resize], interpolation=InterpolationMode(self.interpolation))
        pixels: Tensor = TF.pil_to_tensor(TF.center_crop(image, [self.crop, self.crop]))
        return pixels

    def __call__(self, image: Any) -> Tensor:
        """A Pillow image as float32 [C, crop, crop]."""
        return self.normalise(self.pixels(image))

    def open(self, path: str | Path) -> Tensor:
        """A picture file as float32 [C, crop, crop], turned upright as its EXIF data says.

        Raises:
            InputError: no such file, or no picture.
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                return self(upright)
        except InputError:
            raise
        except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):  # as Pillow has it
            raise InputError(f"{path} is no image that can be read; give a PNG, a JPEG or another picture") from None
        except OSError as error:
            raise InputError(
                f"cannot read the image {path}: {error.strerror or error}; give the path of a picture"
            ) from None
