"""JPEG files of the size of ImageNet's, made here, and passes over them: this package's readers and torchvision's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.protocol import Batch, Data
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD

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
class TorchvisionFolder:
    """The files as torchvision and torch read them, with batches that arrive on a device."""

    classes: tuple[str, ...]
    loader: Callable[[int], DataLoader[Any]]  # of batches of so many images
    device: torch.device

    @classmethod
    def of(cls, folder: Path, side: int, workers: int, device: torch.device) -> TorchvisionFolder:
        """Return the files of a folder, cropped and mirrored by torchvision as for ImageNet."""
        steps = [
            T.RandomResizedCrop(side),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
        images = ImageFolder(folder / "train", T.Compose(steps))

        def loader(batch: int) -> DataLoader[Any]:
            # Workers end with the pass, as those of this package's readers do.
            pinned = device.type == "cuda"
            return DataLoader(images, batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=pinned)

        return cls(tuple(images.classes), loader, device)

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over the files once; the transforms are fixed, and torch's own generator draws them."""
        for x, labels in self.loader(batch_size):
            yield self._send(x).contiguous(memory_format=torch.channels_last), self._send(labels)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)
