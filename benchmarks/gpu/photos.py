"""JPEG files of the size of ImageNet's, made here, and passes over them: this package's readers and timm's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_loader
from torchvision.datasets import ImageFolder

from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.protocol import Batch, Data
from fbnetv3.training.process_rank import ProcessRank

SIZE = (500, 375)  # width and height that most images of ImageNet have
CLASSES = 10
OCTAVES = (4, 16, 64, 250)  # cells of noise across an image, of ever finer detail
QUALITY = 90


def write_photos(folder: Path, different: int, count: int) -> float:
    """Write JPEG files into `folder/train/CLASS`, and a few into `folder/val/CLASS`, and return their mean size in bytes.

    Args:
        different: number of images that are made, at least one for each class.
        count: number of files. Those beyond `different` are further names of the same files, since reading and decoding one
            takes as long under every name.
    """
    rng = np.random.default_rng(0)
    made: list[Path] = []
    for i in range(count):
        path = folder / "train" / f"class{i % CLASSES}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < different:
            photo(rng).save(path, quality=QUALITY)
            made.append(path)
        else:
            os.link(made[i % different], path)
    for i, path in enumerate(made[:CLASSES]):
        target = folder / "val" / f"class{i}" / path.name
        target.parent.mkdir(parents=True)
        os.link(path, target)
    return float(np.mean([path.stat().st_size for path in made]))


def photo(rng: np.random.Generator) -> Image.Image:
    """Return an image of coarse and fine noise: its JPEG file is about as large as that of a photo."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3))
    for cells in OCTAVES:
        coarse = rng.integers(0, 256, (cells * SIZE[1] // SIZE[0] + 1, cells, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray((pixels / len(OCTAVES)).astype(np.uint8))


def decode(paths: list[Path]) -> None:
    """Decode JPEG files one after the other with Pillow, and do nothing else with them."""
    for path in paths:
        with Image.open(path) as image:
            image.load()


def readers(folder: Path, side: int, workers: int) -> Data:
    """Return the files as this package reads them."""
    return load_data(str(folder), resolution=side, workers=workers)


@dataclass(frozen=True, eq=False)
class TimmFolder:
    """The files as timm reads them, with batches that are sent to a device as bytes one ahead, and normalised there."""

    classes: tuple[str, ...]
    loader: Callable[[int], Any]  # of batches of so many images

    @classmethod
    def of(cls, folder: Path, side: int, workers: int, device: torch.device) -> TimmFolder:
        """Return the files of a folder, cropped and mirrored by timm as for ImageNet."""
        images = ImageFolder(folder / "train")

        def loader(batch: int) -> Any:
            return create_loader(
                images,
                side,
                batch,
                is_training=True,
                color_jitter=None,  # this package's `resized_crop_flip` has none
                num_workers=workers,
                pin_memory=device.type == "cuda",
                device=device,
                # As this package's, workers end with the pass. A pass takes seconds here, and minutes on ImageNet, where
                # the start of workers makes no difference.
                persistent_workers=False,
            )

        return cls(tuple(images.classes), loader)

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over the files once; the transforms are fixed, and torch's own generator draws them."""
        for x, labels in self.loader(batch_size):
            yield x.contiguous(memory_format=torch.channels_last), labels
