"""How an image becomes the input of a network. Pillow and torchvision are needed only where an image is given."""

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
    """Resize the shorter side to `resize` pixels, cut `crop` x `crop` pixels out of the middle, and normalise.

    Pixels are scaled to 0..1 and become (pixel - mean) / std. `mean` and `std` (standard deviation) have one value for each
    channel of the network: with one channel an image is made grey, with three it is RGB.
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
                raise InputError(f"transforms: {name} is {values!r}; allowed: one number for every channel")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise InputError(f"transforms: std is {self.std}; allowed: as many positive numbers as mean has")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"transforms: interpolation is {self.interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}"
            )

    @classmethod
    def from_dict(cls, data: Any, where: str = "transforms") -> Transforms:
        """Read what `to_dict` returned.

        Raises:
            InputError: an unknown key, a missing key, or a value out of range.
        """
        fields = check_keys(data, cls, where)  # the values are checked in __post_init__
        # JSON has no tuples, so they come back as lists.
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @property
    def in_chans(self) -> int:
        """Number of channels of the network's input."""
        return len(self.mean)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels [..., C, H, W] as float32 input of the same shape."""
        # Scaling mean and std by 255 once is cheaper than dividing every pixel by 255.
        mean, std = (torch.tensor([255 * v for v in values])[:, None, None] for values in (self.mean, self.std))
        return pixels.float().sub_(mean).div_(std)

    def pixels(self, image: Any) -> Tensor:
        """Return a Pillow image as uint8 pixels [C, crop, crop].

        Pillow resizes the image, not torch, because the published accuracies were measured with Pillow, whose filters differ.

        Raises:
            InputError: the network has neither 1 nor 3 channels.
        """
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        modes: Mapping[int, str] = {1: "L", 3: "RGB"}
        if self.in_chans not in modes:
            raise InputError(
                f"an image has 1 or 3 channels, but the network takes {self.in_chans}; give the network tensors instead"
            )
        image = image.convert(modes[self.in_chans])
        image = TF.resize(image, [self.resize], interpolation=InterpolationMode(self.interpolation))
        pixels: Tensor = TF.pil_to_tensor(TF.center_crop(image, [self.crop, self.crop]))
        return pixels

    def __call__(self, image: Any) -> Tensor:
        """Return a Pillow image as float32 input [C, crop, crop]."""
        return self.normalise(self.pixels(image))

    def open(self, path: str | Path) -> Tensor:
        """Return an image file as float32 input [C, crop, crop], turned upright.

        Raises:
            InputError: there is no such file, or it is not a readable image.
        """
        return self(open_upright(path))


def open_upright(path: str | Path, mode: str | None = None) -> Any:
    """Return an image file as a Pillow image, decoded and turned upright as its EXIF data says.

    Args:
        mode: Pillow's name of the pixels to convert to, such as `RGB`; None leaves them as they are.

    Raises:
        InputError: there is no such file, or it is not a readable image.
    """
    from PIL import Image, ImageOps

    try:
        # `exif_transpose` copies the pixels, so a damaged file fails here and not later.
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return upright if mode is None else upright.convert(mode)
    except FileNotFoundError:
        raise InputError(f"no image at {path}; give the path of an image file") from None
    # Pillow raises these, depending on where the damage is.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is no image that can be read ({error}); give a PNG, a JPEG or another image"
        ) from None
