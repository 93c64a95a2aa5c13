"""ImageNet: evaluation of any weights with their own preprocessing, and the search's split of section 4.

    fbnetv3 benchmark imagenet --data PATH [--model fbnetv3_a] [--weights fb] [--per-class FILE.csv]
    fbnetv3 benchmark imagenet-split --data PATH --out LISTS
    fbnetv3 train --data list:LISTS:PATH ...

The first needs `val/CLASS/PICTURE` in PATH (or PATH is that folder itself); CLASS is a synset such as n01440764, or a class's
number. The second lists pictures of `train/CLASS/PICTURE` in `LISTS/train.txt` and `LISTS/val.txt`, which the third trains on
and ranks by. None of them was run on ImageNet here, which this machine does not have: the first is proven on photos and on
weights of another network, the others on pictures that their tests make.
"""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fbnetv3.classifier import class_names
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.training.data.image_files import Files, Pictures, list_files
from fbnetv3.training.data.readers import EVAL_BATCH, eval_picture, read_batches
from fbnetv3.transforms import Transforms
from fbnetv3.weight_file import IMAGENET

SEARCH_CLASSES, HELD_OUT = 200, 10_000  # section 4: classes, and images taken out of train for validation
EXTENSIONS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class ClassRow:
    """Images of a class, and how many have it first, and among the first five."""

    name: str
    images: int
    hits1: int
    hits5: int


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent over all images; images a second of the network alone, and with reading and preparing."""

    images: int
    acc1: float
    acc5: float
    network_images_per_s: float
    images_per_s: float
    classes: tuple[ClassRow, ...]


def evaluate(
    network: Callable[[Tensor], Tensor],
    transforms: Transforms,
    pictures: Pictures,
    *,
    workers: int = 0,
    device: str = "cpu",
    names: tuple[str, ...] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Top-1 and top-5 of a network in eval mode, every picture once.

    Args:
        network: normalised images [N, C, H, W] to logits [N, classes]; a module must be in eval mode.
        pictures: labels are the network's classes.
        workers: processes that read pictures, beside this one.
        names: of the classes; ImageNet's by default.

    Raises:
        InputError: a picture is damaged; the message names it.
    """
    names = class_names(IMAGENET) if names is None else names
    count = len(pictures.labels)
    first, five = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    rows = [np.arange(i, min(i + EVAL_BATCH, count)) for i in range(0, count, EVAL_BATCH)]
    prepare = functools.partial(eval_picture, transforms)
    start, busy = time.perf_counter(), 0.0
    with torch.no_grad():
        for chosen, (pixels, labels) in zip(rows, read_batches(pictures, rows, prepare, workers), strict=True):
            x = transforms.normalise(pixels).to(device)
            begin = time.perf_counter()
            logits = network(x).float().cpu()
            busy += time.perf_counter() - begin
            first[chosen] = (logits.argmax(1) == labels).numpy()
            five[chosen] = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]).any(1).numpy()
            if progress is not None:
                progress(int(chosen[-1]) + 1, count)
    seconds = time.perf_counter() - start
    per_class = tuple(
        ClassRow(names[label], int(mine.sum()), int(first[mine].sum()), int(five[mine].sum()))
        for label in np.unique(pictures.labels).tolist()
        for mine in [pictures.labels == label]
    )
    return Evaluation(
        count, 100 * float(first.mean()), 100 * float(five.mean()), count / busy, count / seconds, per_class
    )


def val_pictures(folder: str | Path) -> Files:
    """ImageNet's validation pictures, or some of them: `val/CLASS/PICTURE` or `CLASS/PICTURE`, labels as ImageNet's 0..999.

    Raises:
        InputError: no pictures, or a class that is neither a synset of ImageNet's nor a number below 1000.
    """
    root = Path(folder).expanduser()
    root = root / "val" if (root / "val").is_dir() else root
    return _labelled(root)


def write_classes(path: str | Path, evaluation: Evaluation) -> None:
    """The classes as CSV: name, images, hits among the first and the first five, accuracy in percent."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("class", "images", "hits1", "hits5", "acc1"))
    for row in evaluation.classes:
        writer.writerow((row.name, row.images, row.hits1, row.hits5, f"{100 * row.hits1 / row.images:.2f}"))
    write_atomically(path, table.getvalue())


def search_split(
    data: str | Path, classes: int = SEARCH_CLASSES, held_out: int = HELD_OUT, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Section 4's data of the search: `classes` classes at random, of whose images `held_out` are for validation.

    The paper's own sample is not published: this is another, the same one for the same seed.

    Args:
        data: folder with train/CLASS/PICTURE.

    Returns:
        Paths below `data` to train on, and held out, sorted.

    Raises:
        InputError: fewer classes or images than that, or a class of which nothing is left to train on.
    """
    root = Path(data).expanduser() / "train"
    found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if len(found) < classes:
        raise InputError(f"{root} has {len(found)} folders of classes; needed: {classes}")
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(found, classes, replace=False).tolist())
    paths = sorted(f"train/{name}/{picture.name}" for name in chosen for picture in _pictures(root / name))
    if len(paths) <= held_out:
        raise InputError(f"{root} has {len(paths)} pictures in {classes} classes; needed: more than {held_out}")
    held = set(rng.choice(len(paths), held_out, replace=False).tolist())
    train = [p for i, p in enumerate(paths) if i not in held]
    if bare := set(chosen) - {Path(path).parent.name for path in train}:
        raise InputError(f"{root / min(bare)} keeps no picture to train on; hold out fewer than {held_out}")
    return train, [p for i, p in enumerate(paths) if i in held]


def write_search_split(
    data: str | Path, out: str | Path, classes: int = SEARCH_CLASSES, held_out: int = HELD_OUT, seed: int = 0
) -> dict[Path, int]:
    """Write `search_split` as two lists of files, `train.txt` and `val.txt`, a path a line; images by list."""
    train, held = search_split(data, classes, held_out, seed)
    lists = {Path(out) / "train.txt": train, Path(out) / "val.txt": held}
    for file, paths in lists.items():
        write_atomically(file, "".join(f"{path}\n" for path in paths))
    return {file: len(paths) for file, paths in lists.items()}


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)


def _labelled(root: Path) -> Files:
    from timm.data import ImageNetInfo
    from torchvision.datasets import ImageFolder

    try:
        listed = ImageFolder(str(root))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{root}: {error}; give a folder with val/CLASS/PICTURE") from None
    synsets = {name: index for index, name in enumerate(ImageNetInfo().label_names())}
    numbers = {str(index): index for index in range(len(synsets))}
    index: list[int] = []
    for name in listed.classes:
        if name not in synsets and name not in numbers:
            raise InputError(
                f"{root / name}: {name!r} is no class of ImageNet; give synsets such as n01440764, or numbers"
            )
        index.append(synsets.get(name, numbers.get(name, -1)))
    listed.targets = [index[label] for label in listed.targets]
    return list_files(listed, root)
