"""The images that a text such as `torchvision:cifar10:/data` names.

They may be in a folder, in file lists, in a set of torchvision or Hugging Face, or in shards.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fbnetv3.errors import InputError
from fbnetv3.training.data.image_files import (
    SPELLINGS,
    DatasetImages,
    ImageCollection,
    ImageSource,
    list_files,
    open_folder,
    open_lists,
)
from fbnetv3.training.data.shards import open_shards
from fbnetv3.training.data.spec import home_path

_BOTH: Mapping[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
# Name of the class, and the class's arguments for each split.
TORCHVISION: Mapping[str, tuple[str, Mapping[str, dict[str, Any]]]] = {
    "cifar10": ("CIFAR10", _BOTH),
    "cifar100": ("CIFAR100", _BOTH),
    "fashion_mnist": ("FashionMNIST", _BOTH),
    "imagenet": ("ImageNet", {"train": {"split": "train"}, "val": {"split": "val"}}),
    "kmnist": ("KMNIST", _BOTH),
    "mnist": ("MNIST", _BOTH),
}
STREAMS = ("hfids/", "tfds/")  # timm's readers that cannot read the n-th image


def open_image_source(spec: str, *, download: bool = False) -> ImageSource:
    """Find the images that a text names; `load.load_data` describes the texts. No image is decoded.

    Raises:
        InputError: nothing is there, or its layout is another one.
    """
    if spec.startswith(STREAMS):
        raise InputError(
            f"data {spec!r} can only be streamed, but a training needs any image at any time; use hfds/NAME, wds/FOLDER, a "
            "folder or torchvision:NAME:FOLDER"
        )
    if spec.startswith("torchvision:"):
        source = _torchvision(spec, download)
    elif spec.startswith("hfds/"):
        source = _hugging_face(spec)
    elif spec.startswith("wds/"):
        source = open_shards(home_path(spec.removeprefix("wds/")))
    elif spec.startswith("list:"):
        source = _lists(spec)
    else:
        source = open_folder(home_path(spec))
    if "train" not in source.splits:
        raise InputError(f"data {spec!r} has no labelled split train, but {', '.join(source.splits) or 'none'}")
    return source


def _lists(spec: str) -> ImageSource:
    _, lists, root, *_ = (*spec.split(":", 2), "", "")  # padded, so that missing parts are empty
    if not lists or not root:
        raise InputError(
            f"data {spec!r}: expected list:LISTS:FOLDER, where LISTS has train.txt with paths below FOLDER, one a line"
        )
    return open_lists(home_path(lists), home_path(root))


def _torchvision(spec: str, download: bool) -> ImageSource:
    from torchvision import datasets

    _, name, root, *_ = (*spec.split(":", 2), "", "")
    if name not in TORCHVISION or not root:
        raise InputError(f"data {spec!r}: expected torchvision:NAME:FOLDER; available names: {', '.join(TORCHVISION)}")
    kind, arguments = TORCHVISION[name]
    splits: dict[str, ImageCollection] = {}
    for split, given in arguments.items():
        # ImageNet must be downloaded by hand, and its class has no such argument.
        extra = {"download": download} if kind != "ImageNet" else {}
        try:
            found = getattr(datasets, kind)(root, **given, **extra)
        # KeyError: torchvision's ImageNet takes any folder, also a hidden one, for a class.
        except (OSError, RuntimeError, KeyError) as error:
            raise InputError(
                f"cannot open torchvision's {kind} in {root}: {error}; give the folder that holds it, or allow the download"
            ) from error
        if hasattr(found, "samples"):  # ImageNet is a folder of files
            splits[split] = list_files(found, Path(found.split_folder))
        else:
            labels = np.asarray(found.targets, dtype=np.int64)
            # A partial function of a module, and no lambda: worker processes may have to pickle it.
            splits[split] = DatasetImages(f"{kind} {split}", functools.partial(_first, found), labels)
    classes = tuple(c if isinstance(c, str) else c[0] for c in found.classes)
    return ImageSource(f"torchvision:{name}", classes, splits)


def _first(items: Any, index: int) -> Any:
    return items[index][0]


def _open_first(items: Any, index: int) -> Any:
    return Image.open(items[index][0])


def _hugging_face(spec: str) -> ImageSource:
    from timm.data import create_reader

    try:
        # By name, since "datasets" may not be installed and type checkers need not know it.
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise InputError(f'data {spec!r} needs the package datasets; run: pip install "fbnetv3[hf]"') from None
    path, _, wanted = spec.partition("#")
    name = path.removeprefix("hfds/")
    try:
        available = datasets.get_dataset_split_names(name)
        features = datasets.load_dataset(name, split=available[0]).features
    except Exception as error:  # the file system, the network and pyarrow raise different errors
        raise InputError(f"cannot open the Hugging Face data set {name!r}: {error}") from error
    image = _column(spec, features, datasets.Image, "")
    label = _column(spec, features, datasets.ClassLabel, wanted)
    splits: dict[str, ImageCollection] = {}
    for split, names in SPELLINGS.items():
        for found in (n for n in names if n in available):
            reader = create_reader(path, split=found, input_key=image, target_key=label)
            labels = np.array(reader.dataset[label][:], dtype=np.int64)
            if len(labels) and labels.min() >= 0:  # -1 means that the labels are secret, as in many test splits
                splits[split] = DatasetImages(f"{spec} {found}", functools.partial(_open_first, reader), labels)
    return ImageSource(f"hfds/{Path(name).name if Path(name).exists() else name}", tuple(features[label].names), splits)


def _column(spec: str, features: Mapping[str, Any], kind: type, wanted: str) -> str:
    """Return the name of the only column of a type, or of the one that the user wants."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    chosen = [name for name in names if name == wanted] if wanted else names
    if len(chosen) == 1:
        return chosen[0]
    raise InputError(
        f"data {spec!r}: columns of type {kind.__name__} are {', '.join(names) or 'none'}; one is needed. If there are several "
        "labels, give hfds/NAME#COLUMN"
    )
