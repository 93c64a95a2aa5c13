"""ImageNet: evaluation of any weights with their own preprocessing, and the data split of the search (section 4).

    fbnetv3 benchmark imagenet --data IMAGENET --model fbnetv3_a --weights fb --per-class FILE.csv
    fbnetv3 benchmark imagenet-split --data IMAGENET --out LISTS
    fbnetv3 train --model fbnetv3_a --data list:LISTS:IMAGENET --out DIR

The first command needs `IMAGENET/val/CLASS/IMAGE`, or IMAGENET is that folder `val`. CLASS is a synset such as n01440764,
or the number of a class. The second command lists images of `IMAGENET/train/CLASS/IMAGE` in `LISTS/train.txt` and
`LISTS/val.txt`. The third trains on these lists.

None of them was run on ImageNet here, because this machine does not have it. The first was tested on photos with the weights of
another network, the others on images that the tests make.
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

from fbnetv3.device import synchronise, tf32_units
from fbnetv3.errors import InputError
from fbnetv3.evaluation.classes import imagenet_numbers
from fbnetv3.files import write_atomically
from fbnetv3.networks.classifier import class_names
from fbnetv3.networks.weight_file import IMAGENET
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.data.device import send
from fbnetv3.training.data.image_files import ImageCollection, ImageFiles
from fbnetv3.training.data.listing import class_folders, is_hidden, list_classes
from fbnetv3.training.data.readers import EVAL_BATCH, eval_image, read_batches
from fbnetv3.transforms import Transforms

LISTS = ("train.txt", "val.txt")  # of `write_search_split`
SEARCH_CLASSES, HELD_OUT = (
    200,
    10_000,
)  # section 4: classes of the search, and training images that become validation images
EXTENSIONS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class ClassRow:
    """The images of a class: how many there are, and for how many the class is the likeliest, or among the five likeliest."""

    name: str
    images: int
    hits1: int
    hits5: int


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of a network in percent, over all images and by class, and its speed.

    `network_images_per_s` counts the time in the network alone, `images_per_s` also that of reading and preparing.
    """

    images: int
    acc1: float
    acc5: float
    network_images_per_s: float
    images_per_s: float
    classes: tuple[ClassRow, ...]


def evaluate(
    network: Callable[[Tensor], Tensor],
    transforms: Transforms,
    images: ImageCollection,
    *,
    workers: int = 0,
    device: str = "cpu",
    names: tuple[str, ...] | None = None,
    progress: Callable[[int, int], None] | None = None,
    bad: BadImages | None = None,
) -> Evaluation:
    """Return the top-1 and top-5 accuracy of a network, computed in full float32. Every image is counted once.

    Args:
        network: maps normalised images [N, C, H, W] to logits [N, classes]. A module must be in eval mode.
        transforms: the preprocessing of the weights.
        images: the images. Their labels are the classes of the network.
        workers: number of processes that read images; 0 reads them in this process.
        device: where the network computes.
        names: names of the classes; by default ImageNet's.
        progress: called with the number of images that are done and that of all images.
        bad: what is done about images that cannot be read; by default they end the evaluation.

    Raises:
        InputError: an image cannot be read, and such images end the evaluation; or none can be read.
    """
    names = class_names(IMAGENET) if names is None else names
    count = len(images.labels)
    seen, first, five = (np.zeros(count, dtype=bool) for _ in range(3))
    rows = [np.arange(i, min(i + EVAL_BATCH, count)) for i in range(0, count, EVAL_BATCH)]
    prepare = functools.partial(eval_image, transforms)
    place = torch.device(device)
    normalise = transforms.normaliser(place)
    # The network is timed apart from reading images: which of the two is slower tells a user whether more workers help.
    start, busy = time.perf_counter(), 0.0
    with torch.no_grad(), tf32_units(used=False):
        for pixels, chosen in read_batches(images, rows, prepare, workers, bad, split="val"):
            labels = torch.from_numpy(images.labels[chosen])
            x = normalise(send(pixels, place))
            synchronise(place)  # the copy of the images is not timed as the network's
            begin = time.perf_counter()
            logits = network(x).float().cpu()  # waits for the device: what follows is not timed as the network's
            busy += time.perf_counter() - begin
            seen[chosen] = True
            first[chosen] = (logits.argmax(1) == labels).numpy()
            five[chosen] = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]).any(1).numpy()
            if progress is not None:
                progress(int(chosen[-1]) + 1, count)
    seconds = time.perf_counter() - start
    read = int(seen.sum())
    if not read:
        raise InputError("no image can be read; repair them")
    per_class = tuple(
        ClassRow(names[label], int(mine.sum()), int(first[mine].sum()), int(five[mine].sum()))
        for label in np.unique(images.labels[seen]).tolist()
        for mine in [seen & (images.labels == label)]
    )
    acc1, acc5 = (100 * float(hits[seen].mean()) for hits in (first, five))
    return Evaluation(read, acc1, acc5, read / busy, read / seconds, per_class)


def val_images(folder: str | Path) -> ImageFiles:
    """Return ImageNet's validation images, or some of them, with ImageNet's labels 0 to 999.

    Args:
        folder: folder with val/CLASS/IMAGE, or with CLASS/IMAGE.

    Raises:
        InputError: there are no images, or a class is neither a synset of ImageNet nor a number below 1000.
    """
    root = Path(folder).expanduser()
    # Both layouts are common: the whole of ImageNet, and a folder with the validation images alone.
    root = root / "val" if (root / "val").is_dir() else root
    if not root.is_dir():
        raise InputError(f"no folder {root}; give a folder with val/CLASS/IMAGE")
    return _labelled(root)


def write_classes(path: str | Path, evaluation: Evaluation) -> None:
    """Write the classes as CSV: name, images, hits of top-1 and of top-5, and top-1 accuracy in percent."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("class", "images", "hits1", "hits5", "acc1"))
    for row in evaluation.classes:
        writer.writerow((row.name, row.images, row.hits1, row.hits5, f"{100 * row.hits1 / row.images:.2f}"))
    write_atomically(path, table.getvalue())


def search_split(
    data: str | Path, classes: int = SEARCH_CLASSES, held_out: int = HELD_OUT, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Return the search's data of section 4: random classes, and random images of them that are held out for validation.

    The sample of the paper is not published. This is another one; the same seed gives the same sample.

    Args:
        data: folder with train/CLASS/IMAGE.
        classes: number of classes.
        held_out: number of images that are held out.
        seed: seed of the sample.

    Returns:
        The sorted paths, relative to `data`, of the images to train on, and of those that are held out.

    Raises:
        InputError: there are too few classes or images, or a class keeps no image to train on.
    """
    root = Path(data).expanduser() / "train"
    found = class_folders(root) if root.is_dir() else []
    if len(found) < classes:
        raise InputError(f"{root} has {len(found)} folders of classes; needed: {classes}")
    # Classes first, then images of them: the paper takes 10,000 images out of 200 classes, not out of each class.
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(found, classes, replace=False).tolist())
    # Sorted, because the order of a folder differs between file systems, and the sample is drawn from it.
    paths = sorted(f"train/{name}/{image.name}" for name in chosen for image in _images(root / name))
    if len(paths) <= held_out:
        raise InputError(f"{root} has {len(paths)} images in {classes} classes; needed: more than {held_out}")
    held = set(rng.choice(len(paths), held_out, replace=False).tolist())
    # A class without a training image could not be learnt, and its validation images would count as wrong.
    train = [p for i, p in enumerate(paths) if i not in held]
    if bare := set(chosen) - {Path(path).parent.name for path in train}:
        raise InputError(f"{root / min(bare)} keeps no image to train on; hold out fewer than {held_out}")
    return train, [p for i, p in enumerate(paths) if i in held]


def write_search_split(
    data: str | Path, out: str | Path, classes: int = SEARCH_CLASSES, held_out: int = HELD_OUT, seed: int = 0
) -> dict[Path, int]:
    """Write the paths of `search_split` into `train.txt` and `val.txt`, one per line, and return the number of each."""
    found = search_split(data, classes, held_out, seed)
    lists = {Path(out) / name: paths for name, paths in zip(LISTS, found, strict=True)}
    for file, paths in lists.items():
        write_atomically(file, "".join(f"{path}\n" for path in paths))
    return {file: len(paths) for file, paths in lists.items()}


def _images(folder: Path) -> Iterator[Path]:
    """Return the image files of a folder, without hidden ones."""
    return (path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not is_hidden(path.name))


def _labelled(root: Path) -> ImageFiles:
    """Return the images of root/CLASS/IMAGE with ImageNet's labels instead of those in alphabetical order of the folders."""
    files, labels, classes = list_classes(root, allow_empty=True)
    numbers = imagenet_numbers()
    if odd := [name for name in classes if name not in numbers]:
        raise InputError(
            f"{root / odd[0]}: {odd[0]!r} is no class of ImageNet; give synsets such as n01440764, or numbers"
        )
    index = [numbers[name] for name in classes]
    # The folders are numbered from 0. With a part of the classes, these are not ImageNet's numbers.
    return ImageFiles(root, files, np.array(index, dtype=np.int64)[labels])
