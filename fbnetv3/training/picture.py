"""A picture from a file as the input of a classifier."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from fbnetv3.errors import InputError


def load_image(path: str | Path, channels: int, side: int) -> Tensor:
    """A picture as uint8 [channels, side, side]: grey for one channel, shorter side resized, centre cropped.

    Raises:
        InputError: no such file, or no picture.
    """
    try:
        with Image.open(path) as image:
            pixels = TF.pil_to_tensor(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):  # as Pillow has it
        raise InputError(f"{path} is no image that can be read; give a PNG, a JPEG or another picture") from None
    except OSError as error:
        raise InputError(
            f"cannot read the image {path}: {error.strerror or error}; give the path of a picture"
        ) from None
    cropped: Tensor = TF.center_crop(TF.resize(pixels, [side], antialias=True), [side, side])
    return cropped
