"""How an image becomes the input of a network. Pillow and torchvision are needed only where an image is given."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbnetv3.device import plain_defaults
from fbnetv3.errors import InputError, check_keys, quote

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")
LONGEST = 100  # an image is resized as a whole if its sides differ by no more than this factor
LARGEST_SIDE = 16_384  # pixels; a square image has a gigabyte then


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
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_SIDE:
                raise InputError(
                    f"transforms: {name} is {quote(value)}; allowed: whole numbers from 1 to {LARGEST_SIDE:,}"
                )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not values or not all(map(_is_number, values)):
                raise InputError(f"transforms: {name} is {quote(values)}; allowed: one number for every channel")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise InputError(f"transforms: std is {quote(self.std)}; allowed: as many positive numbers as mean has")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"transforms: interpolation is {quote(self.interpolation)}; allowed: {', '.join(INTERPOLATIONS)}"
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
        try:
            return cls(**values)
        except InputError as error:  # the transforms do not know where they are written
            raise InputError(f"{where}: {str(error).removeprefix('transforms: ')}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @property
    def in_chans(self) -> int:
        """Number of channels of the network's input."""
        return len(self.mean)

    def at(self, side: int) -> Transforms:
        """Return the preprocessing for images of another side: the resized side keeps its proportion to the crop."""
        return dataclasses.replace(self, resize=round(self.resize * side / self.crop), crop=side)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels [..., C, H, W] as float32 input of the same shape."""
        return self.normaliser(pixels.device)(pixels)

    def normaliser(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return `normalise` for pixels on a device. Mean and std are sent there once, and not with every batch."""
        # Scaling mean and std by 255 once is cheaper than dividing every pixel by 255.
        mean, std = (
            torch.tensor([255 * v for v in values], dtype=torch.float32, device=device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return lambda pixels: pixels.float().sub_(mean).div_(std)

    @plain_defaults()
    def pixels(self, image: Any) -> Tensor:
        """Return a Pillow image as uint8 pixels [C, crop, crop].

        Pillow resizes the image, not torch, because the published accuracies were measured with Pillow, whose filters differ.

        Raises:
            InputError: the network has neither 1 nor 3 channels, or `eight_bit` refuses the image.
        """
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        modes: Mapping[int, str] = {1: "L", 3: "RGB"}
        if self.in_chans not in modes:
            raise InputError(
                f"an image has 1 or 3 channels, but the network takes {self.in_chans}; give the network tensors instead"
            )
        image = _middle(eight_bit(image).convert(modes[self.in_chans]), self.resize, self.crop)
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


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that pixels can be computed with: not NaN, infinite, huge or True."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def open_upright(path: str | Path, mode: str | None = None) -> Any:
    """Return an image file as a Pillow image, as `decode_image` describes.

    Args:
        mode: Pillow's name of the pixels to convert to, such as `RGB`; None leaves them as they are.

    Raises:
        InputError: there is no such file, or it is not a readable image.
    """
    from PIL import Image

    if not os.path.exists(path):  # noqa: PTH110 - it takes names that are too long
        raise InputError(f"no image at {path}; give the path of an image file")
    image = decode_image(lambda: Image.open(path), str(path))
    return image if mode is None else image.convert(mode)


def decode_image(
    open_image: Callable[[], Any],
    where: str,
    advice: str = "give a PNG, a JPEG or another image",
    *,
    upright: bool = True,
) -> Any:
    """Return a Pillow image with all its pixels: turned upright as its EXIF data says, and of 8 bits (see `eight_bit`).

    Everything that reads images reads them with this function, so that a network sees the same pixels everywhere.

    Args:
        open_image: returns what `PIL.Image.open` returns.
        where: what identifies the image, for the messages.
        advice: what to do about an image that cannot be read.
        upright: turn the image as its EXIF data says.

    Raises:
        InputError: the image is damaged, cannot be opened, or `eight_bit` refuses it.
    """
    from PIL import Image, ImageOps

    try:
        with open_image() as image:
            image.load()  # a damaged file fails here and not later
            turned = None
            if upright:
                with contextlib.suppress(Exception):  # the EXIF data may be damaged where the pixels are not
                    turned = ImageOps.exif_transpose(image)
            return eight_bit(image.copy() if turned is None else turned, image)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(f"{where} has more than {limit:,} pixels, too many to be read; make it smaller") from None
    except Exception as error:  # a decoder raises anything, depending on the damage
        words = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise InputError(f"{where} is no image that can be read ({type(error).__name__}: {words}); {advice}") from None


# Pillow's modes that `convert` turns into L or RGB as everybody expects.
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


def eight_bit(image: Any, original: Any = None) -> Any:
    """Return a Pillow image whose pixels `convert("RGB")` and `convert("L")` convert without a loss that nobody expects.

    16-bit grey is scaled to 8 bits, where Pillow would cut it off at 255. Transparent pixels get a white background, where
    Pillow would show the colours that are stored under them. All other images are returned unchanged.

    Args:
        original: the opened file that `image` is a turned copy of. A copy has lost the file's format and tags.

    Raises:
        InputError: pixels with no agreed black and white, such as floating-point numbers.
    """
    from PIL import Image

    if white := _white(source := image if original is None else original):
        grey = _scaled(image, white)
        # In such TIFF files 0 is white, which Pillow considers for 8 bits only.
        return Image.fromarray(255 - grey if _tags(source).get(262) == 0 else grey)
    if image.mode == "LAB":
        with contextlib.suppress(ValueError):  # older versions of Pillow cannot convert it
            return image.convert("RGB")  # now, because Pillow cannot make it grey
    if image.mode not in _EIGHT_BITS:
        raise InputError(
            f"the image has pixels of Pillow's mode {image.mode}, for which it is not agreed which values are black and "
            "white; save it as 8-bit RGB or grey"
        )
    palette_alpha = image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
    if not (image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info or palette_alpha):
        return image
    coloured = image.convert("RGBA")
    if coloured.getchannel("A").getextrema()[0] == 255:
        return image  # nothing is transparent
    background = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(background, coloured).convert("L" if image.mode in ("1", "L") else "RGB")


def _white(image: Any) -> int | None:
    """Return the value of white in a grey image of more than 8 bits; None for any other image."""
    if image.mode.startswith("I;16"):
        # Pillow gives the values of TIFF files with 12 bits unscaled.
        bits = int(_tags(image).get(258, (16,))[0])
        return (1 << bits) - 1
    # Pillow's mode I has 32 bits. PNG and PPM have no such images: it holds the 16 bits of their grey images.
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _tags(image: Any) -> Mapping[int, Any]:
    """Return the tags of a TIFF file."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags


def _scaled(image: Any, white: int) -> Any:
    """Return a grey image as uint8 [h, w], with `white` as 255 and the transparent value, if it has one, as white."""
    import numpy as np

    grey = np.asarray(image).astype(np.uint32)
    grey = np.where(grey == image.info.get("transparency", -1), white, grey)
    return ((grey * 255 + white // 2) // white).astype(np.uint8)


def _middle(image: Any, resize: int, crop: int) -> Any:
    """Return the middle of an image that is many times as long as wide, and any other image unchanged.

    Resized as a whole, a strip of 9000 x 1 pixels would take gigabytes, all but the crop in vain.
    """
    long, short = max(image.size), min(image.size)
    # Far more than the crop, so that the ends do not reach into it. An even number is cut off, so that the middle stays.
    kept = short * (LONGEST * max(resize, crop) // resize)
    if long <= kept:
        return image
    cut = (long - kept) // 2
    width, height = image.size
    return image.crop((cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut))
