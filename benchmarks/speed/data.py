"""Speed of small images in memory, augmented as tensors, against Pillow images through torch's DataLoader.

The benchmark measures one pass over the training images of the package for every way to read and augment them. It takes about
five minutes. The target: the images in memory are at least five times as fast as the fastest Pillow path.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from fbnetv3.benchmarks.command import Rounds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import fastest, speed_ratio
from fbnetv3.benchmarks.tables import Table
from fbnetv3.inference.optimize import time_calls
from fbnetv3.training.data.augment import PADDING
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import ImageData
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.engine import cpu_threads
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

Pixels = npt.NDArray[np.uint8]
BATCH, SIDE = 128, 32
WORKERS = (0, 2)  # processes of a DataLoader; 0 reads in the main process
VAL_IMAGES = 200  # a folder of images needs a split val, which no pass reads
AUGMENTATIONS = ("crop_flip", "autoaugment")
METHOD = (
    f"One pass over the package's 5,000 Fashion-MNIST training images, padded to {SIDE} x {SIDE} and coloured by class, in "
    f"batches of {BATCH}, shuffled, augmented and normalised. `memory`: ImageData (uint8 tensors, one thread, channels last; "
    "decoding once beforehand is not timed). `pil_arrays_*`: Pillow images made of an array in memory, as torchvision's "
    "CIFAR10 does, and `pil_files_*`: ImageFolder of JPEG files, both with torchvision's transforms on Pillow images and "
    "torch's DataLoader with so many persistent workers. `reader_*`: this package's ReaderData of the same files. Every path "
    "makes a pass in every round, once unmeasured and once measured; `images_per_second` is of the median. "
    "`memory_over_best_pil`: the fastest Pillow path's median time over that of `memory`, with the 95% bootstrap interval over "
    "rounds. `crop_flip` shifts by up to 2 pixels and mirrors; `autoaugment` then applies AutoAugment's policy for CIFAR-10."
)


@dataclass(frozen=True, eq=False)
class Arrays(Dataset[Any]):
    """Images of an array [n, h, w, 3]. Each becomes a Pillow image when it is needed, as in torchvision's CIFAR10."""

    images: Pixels
    labels: list[int]
    transform: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return the transformed image and its label."""
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def coloured(count: int) -> Pixels:
    """Return the first `count` training images of the package as colour images [count, SIDE, SIDE, 3]."""
    train = fashion_mnist().train
    grey = F.pad(train.images[:count, 0], (2, 2, 2, 2)).float()
    # Every class has its tint, so that the three channels differ and a JPEG has colours to store.
    tint = 0.4 + 0.6 * torch.stack([torch.cos(train.labels[:count] + i) ** 2 for i in range(3)], dim=1)
    pixels: Pixels = (grey[..., None] * tint[:, None, None]).to(torch.uint8).numpy()
    return pixels


def write_files(images: Pixels, folder: Path) -> None:
    """Write the images as JPEG files into `folder/train/CLASS`, and the first of them also into `folder/val/CLASS`."""
    labels = fashion_mnist().train.labels.tolist()
    for i, pixels in enumerate(images):
        for split in ("train", "val") if i < VAL_IMAGES else ("train",):
            path = folder / split / str(labels[i]) / f"{i:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=90)


def pillow_transform(kind: str) -> Callable[[Any], Any]:
    """Return the transforms of torchvision that do with a Pillow image what the augmentation `kind` of this package does."""
    policy = [T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)] if kind == "autoaugment" else []
    steps = [T.RandomCrop(SIDE, PADDING), T.RandomHorizontalFlip(), *policy, T.ToTensor(), T.Normalize((0.5,), (0.25,))]
    transform: Callable[[Any], Any] = T.Compose(steps)
    return transform


def passes(kind: str, images: Pixels, folder: Path) -> dict[str, Callable[[], int]]:
    """Return functions that read all images once and count them, by the name of the path.

    Args:
        kind: the augmentation.
        images: the images as an array.
        folder: the same images as files.
    """
    # The labels of the arrays are those of the folders, so that all paths yield the same images with the same labels.
    labels = fashion_mnist().train.labels[: len(images)].tolist()
    transform = pillow_transform(kind)
    memory = load_data(f"memory:{folder}")
    if not isinstance(memory, ImageData):
        raise RuntimeError(f"memory:{folder} is read as {type(memory).__name__}, not as images in memory")
    runs: dict[str, Callable[[], int]] = {"memory": _epochs(memory, kind)}
    for workers in WORKERS:
        for name, dataset in (
            ("arrays", Arrays(images, labels, transform)),
            ("files", ImageFolder(folder / "train", transform)),
        ):
            runs[f"pil_{name}_{workers}"] = _loader(dataset, workers)
        # Reading files is what the reader adds, and that is timed with the plain augmentation already.
        if kind == "crop_flip":
            sizes = Transforms(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3)
            reader = load_data(str(folder), resolution=SIDE, transforms=sizes, workers=workers)
            runs[f"reader_{workers}"] = _epochs(reader, kind)
    return runs


def _epochs(data: Data, kind: str) -> Callable[[], int]:
    """Return a function that reads one epoch of the package's data."""
    rng = np.random.default_rng(0)  # shared by all passes, so that every pass shuffles in another way
    return lambda: _count(data.epoch(kind, BATCH, rng, ProcessRank()))


def _loader(dataset: Any, workers: int) -> Callable[[], int]:
    """Return a function that reads one epoch through torch's DataLoader."""
    # Persistent workers: starting processes is not what a pass costs in a training of many epochs.
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: _count(loader)


def _count(batches: Iterable[Any]) -> int:
    """Read all batches and return their number of images."""
    return sum(len(labels) for _, labels in batches)


def measure(rounds: Rounds = 15, images: int = 5000) -> Measured:
    """Time all paths, for both augmentations."""
    pixels = coloured(images)
    values: Values = {}
    # One thread in the main process. The workers of a DataLoader come on top: their paths use more processors than `memory`.
    with tempfile.TemporaryDirectory() as folder, cpu_threads(1):
        write_files(pixels, Path(folder))
        for kind in AUGMENTATIONS:
            times = time_calls(passes(kind, pixels, Path(folder)), rounds)
            seen = images // BATCH * BATCH  # no path reads the last, smaller batch
            # The rival is the fastest Pillow path of this machine: with files or arrays, with or without workers.
            best = fastest(times, [name for name in times if name.startswith("pil_")])
            values[kind] = {
                "images_per_second": {name: round(seen / float(np.median(series))) for name, series in times.items()},
                "best_pil": best,
                "memory_over_best_pil": speed_ratio(times[best], times["memory"]).as_dict(),
            }
    return Measured(values)


def targets(values: Values) -> dict[str, Target]:
    """Return the target: images in memory are five times as fast as the fastest Pillow path."""
    return {"crop_flip": Target(values["crop_flip"]["memory_over_best_pil"]["ratio"], "at_least", 5.0)}


def record_target(found: Mapping[str, Target]) -> Values:
    """Return the one target as its result file holds it: its value has the name of the augmentation."""
    ((name, target),) = found.items()
    return {"target": {name: target.value, target.rule: target.limit, "met": target.met}}


def tables(result: Result) -> dict[str, Table]:
    """Return the images per second of every path, a column per augmentation."""
    columns = {kind: result.values[kind]["images_per_second"] for kind in AUGMENTATIONS}
    rows = (
        {"path": path, **{kind: f"{columns[kind].get(path, '-')}" for kind in columns}} for path in columns["crop_flip"]
    )
    return {"images per second": Table.of({"path": "`{path}`", **{kind: f"{{{kind}}}" for kind in columns}}, rows)}


BENCHMARK = Benchmark(
    "data_speed",
    METHOD,
    ("torch", "torchvision", "pillow", "numpy"),
    measure,
    targets,
    record=record_target,
    tables=tables,
)
