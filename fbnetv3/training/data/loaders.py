"""`Data` of torch's `DataLoader`s: somebody's own images, transforms and samplers in this package's training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fbnetv3.device import kept_generators
from fbnetv3.errors import InputError, available
from fbnetv3.training.data.device import CPU
from fbnetv3.training.data.protocol import Batch
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms


def wrap_loaders(
    train: DataLoader[Any],
    val: DataLoader[Any] | None = None,
    test: DataLoader[Any] | None = None,
    *,
    classes: Sequence[str] = (),
    transforms: Transforms | None = None,
    name: str = "",
) -> LoaderData:
    """Return torch's `DataLoader`s as data that `fit` takes. Their batches are pairs of images and labels.

    The images are float32 [n, c, side, side], the labels whole numbers [n]. The loaders shuffle and augment, so the recipe's
    `augmentation` has no effect unless the dataset's transform is `train_transform(recipe, transforms)`.

    Args:
        train: its `batch_size` must be the recipe's. The last batch of an epoch is left out if it is smaller.
        val: images to measure on; or give `test`.
        classes: names of the classes. The default is `train.dataset.classes`, which torchvision's datasets have.
        transforms: what the loader of `val` or `test` does to an image. A loader does not say it: without this argument the
            sizes are those of a batch, with mean 0 and standard deviation 1.
        name: identifies the images. A training resumes only with data of the same name.

    Raises:
        InputError: nothing to measure on, no names of classes, or loaders or batches of another kind.
    """
    given = {"train": train, "val": val, "test": test}
    loaders = {split: loader for split, loader in given.items() if loader is not None}
    if len(loaders) == 1:
        raise InputError("there are no images to measure on; give a DataLoader as val or test")
    for split, loader in loaders.items():
        _check_loader(loader, split)
    names = tuple(classes) or _classes(train)
    name = name or f"DataLoader of {_images(train)} images"
    if transforms is None:
        split = "val" if val is not None else "test"
        x, _ = next(_batches(loaders[split], split, seed=0))
        transforms = Transforms(x.shape[-1], x.shape[-1], (0.0,) * x.shape[1], (1.0,) * x.shape[1])
    return LoaderData(name, names, transforms, loaders)


@dataclass(frozen=True, eq=False)
class LoaderData:
    """`Data` of torch's `DataLoader`s, by split. `wrap_loaders` makes it.

    What a loader draws from torch's generators is seeded anew in every epoch. So a training is the same with the same seed,
    and after a resume, which reads the batches of its epoch again that were trained on already. What a dataset draws from
    Python's or NumPy's global generators is not seeded, nor are the streams of `persistent_workers`.
    """

    name: str
    classes: tuple[str, ...]
    transforms: Transforms
    loaders: Mapping[str, DataLoader[Any]]

    def count(self, split: str) -> int:
        """Return the number of images of a split.

        Raises:
            InputError: there is no such split.
        """
        return _images(self._loader(split))

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, as `Data.epoch` describes. The loader augments the images, whatever `augmentation` is.

        Raises:
            InputError: the loader's batches have another size, or several processes train.
        """
        _check_alone(process)
        loader = self._loader("train")
        size = min(loader.batch_size or 0, _images(loader))
        if size != batch_size:
            raise InputError(
                f"the DataLoader has batches of {size} images, the recipe of {batch_size}; give the DataLoader the recipe's "
                f'batch_size, or the training recipe.at_batch_size({size}, "linear"), which scales the learning rate too'
            )
        return _batches(loader, "train", int(rng.integers(2**62)), start, _images(loader) // batch_size)

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield the images of a split.

        Raises:
            InputError: several processes share them.
        """
        _check_alone(process)
        return _batches(self._loader(split), split, seed=0)

    def _loader(self, split: str) -> DataLoader[Any]:
        if split not in self.loaders:
            raise InputError(f"unknown split {split!r} of {self.name}; {available(split, self.loaders)}")
        return self.loaders[split]


def _images(loader: DataLoader[Any]) -> int:
    """Return the number of images of a pass. A sampler may leave some out, or repeat some."""
    # A dataset that is iterated over has a sampler without end.
    images: Any = loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler
    size = loader.batch_size or 1
    return len(images) // size * size if loader.drop_last else len(images)


def _classes(train: DataLoader[Any]) -> tuple[str, ...]:
    dataset: Any = train.dataset
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # of a torch.utils.data.Subset
    if not getattr(dataset, "classes", ()):
        raise InputError("the dataset does not name its classes; give classes=[...]")
    return tuple(map(str, dataset.classes))


def _batches(
    loader: DataLoader[Any], split: str, seed: int, start: int = 0, steps: int | None = None
) -> Iterator[Batch]:
    """Yield the batches of a loader from `start`. With those before they are `steps`.

    The loader draws from a stream of its own. In a plain loop it shares one with the network's dropout; a resumed training
    would then need to drop out once more what it dropped before.
    """
    stream = torch.Generator("cpu").manual_seed(seed).get_state()
    for generator in (loader.generator, getattr(loader.sampler, "generator", None)):
        if generator is not None:
            generator.manual_seed(seed)
    batches: Iterator[Any] | None = None
    for step in range(len(loader) if steps is None else steps):
        with kept_generators(CPU):
            torch.set_rng_state(stream)
            batches = iter(loader) if batches is None else batches
            batch = next(batches, None)
            stream = torch.get_rng_state()
        if batch is None:
            raise InputError(
                f"the DataLoader of {split} ended after {step} batches; by its length it has {len(loader)}"
            )
        if step >= start:
            yield _checked(batch, split)


def _checked(batch: Any, split: str) -> Batch:
    """Return what a loader gave as a batch.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        raise InputError(f"the DataLoader of {split} gives {type(batch).__name__}; give pairs of images and labels")
    x, labels = batch
    if x.ndim != 4 or x.dtype != torch.float32 or x.shape[2] != x.shape[3]:
        raise InputError(
            f"the DataLoader of {split} gives images of {str(x.dtype).removeprefix('torch.')} and shape {list(x.shape)}; give "
            "float32 [n, c, side, side], as the transforms `train_transform(recipe, transforms)` and `transforms` do"
        )
    if labels.shape != x.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"the DataLoader of {split} gives labels of {str(labels.dtype).removeprefix('torch.')} and shape "
            f"{list(labels.shape)}; give a whole number for each image"
        )
    return x, labels.long()


def _check_loader(loader: DataLoader[Any], split: str) -> None:
    if loader.batch_size is None:
        raise InputError(f"the DataLoader of {split} has no batch_size; give it one instead of a batch_sampler")
    try:
        steps = len(loader)
    except TypeError:
        raise InputError(f"the DataLoader of {split} has no length; give its dataset a method __len__") from None
    if not steps:
        raise InputError(f"the DataLoader of {split} has no batch; give a smaller batch_size, or more images")


def _check_alone(process: ProcessRank) -> None:
    if process.world_size > 1:
        raise InputError(
            f"{process.world_size} processes with DataLoaders, which would all read the same images; train in one process, or "
            "give the images to `load_data`"
        )
