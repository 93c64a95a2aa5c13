"""Speed of small images in memory, augmented as tensors, against Pillow pictures through torch's DataLoader.

    fbnetv3 benchmark data-speed

takes some five minutes, wants a machine that does nothing else, and writes `results/data_speed.json`. `--rounds 2` is a
rehearsal; give it another `--out`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from fbnetv3.benchmarks.ratio import fastest, speed_ratio
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.inference.optimize import time_calls
from fbnetv3.training.data.augment import PADDING
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.memory import Data, ImageData, fashion_mnist
from fbnetv3.training.loop import cpu_threads
from fbnetv3.training.process_rank import Share
from fbnetv3.transforms import Transforms

NAME = "data_speed"
BATCH, SIDE, ROUNDS, TARGET = 128, 32, 15, 5.0
WORKERS = (0, 2)
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
    """Pillow images made of an array as they are needed."""

    images: np.ndarray  # uint8 [n, h, w, 3]
    labels: list[int]
    transform: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """A transformed image and its label."""
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def coloured(count: int) -> np.ndarray:
    """The first training images of the package as colour images, uint8 [count, SIDE, SIDE, 3]."""
    train = fashion_mnist().train
    grey = F.pad(train.images[:count, 0], (2, 2, 2, 2)).float()
    tint = 0.4 + 0.6 * torch.stack([torch.cos(train.labels[:count] + i) ** 2 for i in range(3)], dim=1)
    pixels: np.ndarray = (grey[..., None] * tint[:, None, None]).to(torch.uint8).numpy()
    return pixels


def write_files(images: np.ndarray, folder: Path) -> None:
    """Write the images as JPEG files of an ImageFolder, the first 200 also as val."""
    labels = fashion_mnist().train.labels.tolist()
    for i, pixels in enumerate(images):
        for split in ("train", "val")[: 2 if i < 200 else 1]:
            path = folder / split / str(labels[i]) / f"{i:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=90)


def pillow_transform(kind: str) -> Callable[[Any], Any]:
    """torchvision's transforms of a Pillow image that do what the package's augmentation of that name does."""
    policy = [T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)] if kind == "autoaugment" else []
    steps = [T.RandomCrop(SIDE, PADDING), T.RandomHorizontalFlip(), *policy, T.ToTensor(), T.Normalize((0.5,), (0.25,))]
    transform: Callable[[Any], Any] = T.Compose(steps)
    return transform


def passes(kind: str, images: np.ndarray, folder: Path) -> dict[str, Callable[[], object]]:
    """One pass over all images, by the name of the path."""
    labels = fashion_mnist().train.labels[: len(images)].tolist()
    transform = pillow_transform(kind)
    memory = load_data(f"memory:{folder}")
    assert isinstance(memory, ImageData)
    runs: dict[str, Callable[[], object]] = {"memory": _epochs(memory, kind)}
    for workers in WORKERS:
        for name, dataset in (
            ("arrays", Arrays(images, labels, transform)),
            ("files", ImageFolder(folder / "train", transform)),
        ):
            runs[f"pil_{name}_{workers}"] = _loader(dataset, workers)
        if kind == "crop_flip":
            sizes = Transforms(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3)
            reader = load_data(str(folder), resolution=SIDE, transforms=sizes, workers=workers)
            runs[f"reader_{workers}"] = _epochs(reader, kind)
    return runs


def _epochs(data: Data, kind: str) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    return lambda: _consume(data.epoch(kind, BATCH, rng, Share()))


def _loader(dataset: Any, workers: int) -> Callable[[], object]:
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: _consume(loader)


def _consume(batches: Iterable[Any]) -> int:
    return sum(len(labels) for _, labels in batches)


def measure(rounds: int = ROUNDS, count: int = 5000) -> dict[str, Any]:
    """Images a second of every path and ratios, by augmentation, and whether the target is met."""
    images = coloured(count)
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, cpu_threads(1):
        write_files(images, Path(folder))
        for kind in ("crop_flip", "autoaugment"):
            runs = passes(kind, images, Path(folder))
            seen = count // BATCH * BATCH
            times = time_calls(runs, rounds)
            best = fastest(times, [name for name in times if name.startswith("pil_")])
            values[kind] = {
                "images_per_second": {name: round(seen / float(np.median(series))) for name, series in times.items()},
                "best_pil": best,
                "memory_over_best_pil": dataclasses.asdict(speed_ratio(times[best], times["memory"])),
            }
    ratio = values["crop_flip"]["memory_over_best_pil"]["ratio"]
    return values | {"target": {"crop_flip": ratio, "at_least": TARGET, "met": ratio >= TARGET}}


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"passes of every path (default {ROUNDS})")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    result = Result.now(
        command=f"{command_of(NAME)}" + (f" --rounds {options.rounds}" if options.rounds != ROUNDS else ""),
        method=METHOD,
        versions=versions(["torch", "torchvision", "pillow", "numpy"]) | host(),
        values=measure(options.rounds),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
