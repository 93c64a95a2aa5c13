"""Batches that arrive on a device: copied there from the host while the device computes, or made there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbnetv3.device import placed
from fbnetv3.training.data.protocol import Batch, Data
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

CPU = torch.device("cpu")
AHEAD = 2  # batches that the host may be ahead of a GPU's computations: enough to keep it busy


def on_device(data: Data, device: torch.device) -> Data:
    """Return `data` with batches that arrive on a device: the same images in the same order.

    Data may have a method `on_device(device)` that makes its batches there. The batches of other data are copied. Data that is
    on the device already is returned as it is.
    """
    move: Callable[[torch.device], Data] | None = getattr(data, "on_device", None)
    if move is not None:
        return move(device)
    # With its index, so that devices can be compared.
    return data if device.type == "cpu" else MovedData(data, placed(device))


@dataclass(frozen=True, eq=False)
class MovedData:
    """`Data` that knows nothing of devices, such as a custom class, with batches that are copied to a device."""

    data: Data
    device: torch.device

    def on_device(self, device: torch.device) -> Data:
        """Return the data with batches on another device."""
        return self if placed(device) == self.device else on_device(self.data, device)

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.data.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the data."""
        return self.data.classes

    @property
    def transforms(self) -> Transforms:
        """The preprocessing of the data."""
        return self.data.transforms

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return self.data.count(split)

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Pass over `train` once, as `Data.epoch` describes."""
        return send_ahead(self.data.epoch(augmentation, batch_size, rng, process, start), self.device)

    def batches(self, split: str, process: ProcessRank) -> Iterator[Batch]:
        """Yield this process's images of a split, as `Data.batches` describes."""
        return send_ahead(self.data.batches(split, process), self.device)

    def __getattr__(self, name: str) -> Any:
        """Return what the protocol does not have, such as `train_name`."""
        # Copying and pickling ask for special methods before `data` is there.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.data, name)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device. The host does not wait for the copy."""
    # A copy from memory that is not pinned waits until CUDA has done everything before it.
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def send_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a device. On CUDA the next batch is copied while the caller computes with this one."""
    if device.type != "cuda":
        for x, labels in batches:
            yield x.to(device), labels.to(device)
        return
    # Copies on a stream of their own do not wait for the computations.
    stream = torch.cuda.Stream(device)

    def copies() -> Iterator[tuple[Batch, torch.cuda.Event]]:
        for x, labels in batches:
            with torch.cuda.stream(stream):
                # An event for each batch: to wait for the stream would be to wait for the next batch too.
                sent = (send(x, device), send(labels, device)), stream.record_event()
            yield sent

    computed: deque[torch.cuda.Event] = deque()
    for batch, copied in _one_ahead(copies()):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(copied)
        for tensor in batch:
            # The memory belongs to the other stream, which must not use it again before the computations have.
            tensor.record_stream(computing)
        yield batch
        # By now the computations with this batch were asked for. A host that is far ahead would fill the memory with batches.
        computed.append(computing.record_event())
        if len(computed) > AHEAD:
            computed.popleft().synchronize()


def _one_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items, each after the next one was asked for. An error of the next one is raised in its turn."""
    held: list[Any] = []
    failed: Exception | None = None
    try:
        for item in items:
            held.append(item)
            if len(held) > 1:
                yield held.pop(0)
    except Exception as error:
        failed = error
    yield from held
    if failed is not None:
        raise failed
