"""The trainings that `training.py` compares on a GPU, and what it measures of them: time, memory, and how busy the card is."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from fbnetv3.benchmarks.speed import loops
from fbnetv3.benchmarks.speed.loops import SEED, bare_loop, timm_loop
from fbnetv3.device import clock_of
from fbnetv3.layers import use_channels_last
from fbnetv3.model import build_model
from fbnetv3.training.data.memory import ImageData, Split
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.engine import Engine, seeded
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import Trainer

RATE = 1e-4  # a learning rate at which no training diverges on labels that mean nothing
Epoch = Callable[[int], object]  # trains the epoch with the given number


@dataclass(frozen=True, kw_only=True)
class GpuCase(loops.Case):
    """What all loops train on a device.

    Attributes:
        images: the data of this package's loop; those of the others too if `theirs` is None. On the device, or sent there.
        theirs: the data of the other loops.
        augmentation: kind of augmentation of this package's data.
        engine: device, precision and compiler of this package's loop. The others have the same.
    """

    images: Data
    theirs: Any = None
    augmentation: str = "flip"
    engine: Engine

    @property
    def recipe(self) -> Recipe:
        """The recipe of all loops."""
        return super().recipe.replace(augmentation=self.augmentation, lr=RATE)

    @property
    def device(self) -> torch.device:
        """The device of all loops."""
        return torch.device(self.engine.device)

    def network(self) -> nn.Module:
        """Return a new network with the same weights every time, on the device."""
        recipe, classes = self.recipe, len(self.images.classes)

        def build() -> nn.Module:
            return build_model(self.arch, classes, self.channels, recipe.dropout, recipe.stochastic_depth)

        return use_channels_last(seeded(build, SEED).to(self.device))

    def data(self, begin: Callable[[], None] = lambda: None) -> Any:
        """Return the data of the loops besides this package's."""
        return self.images if self.theirs is None else self.theirs

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a loop calls the network and its loss."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.engine.precision == "bf16")

    def called(self, model: nn.Module) -> nn.Module:
        """Return the network as a loop calls it: compiled, if this package's is."""
        if self.engine.compile == "off":
            return model
        return cast(nn.Module, torch.compile(model, mode=str(self.engine.compile)))


def synthetic(count: int, side: int, classes: int, device: torch.device) -> ImageData:
    """Return images of noise that are held on a device."""
    generator = torch.Generator(device).manual_seed(SEED)
    # Drawn on the device: a CPU takes seconds for so many.
    pixels = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator, device=device)
    labels = torch.randint(classes, (count,), generator=generator, device=device)
    few = Split(pixels[:2], labels[:2])  # nothing is evaluated
    names = tuple(map(str, range(classes)))
    return ImageData("synthetic", names, 0.5, 0.25, Split(pixels, labels), few, few).on_device(device)


def our_epochs(case: GpuCase) -> Epoch:
    """Return the epochs of this package's engine, as `fit` trains them."""
    trainer = Trainer.start(case.network(), case.recipe, case.images, SEED, case.engine)
    return lambda number: trainer.train_epoch(number, None, lambda *_: None)


def loop_epochs(make: Callable[[loops.Case], loops.Loop], case: GpuCase) -> Epoch:
    """Return the epochs of a loop of `speed/loops.py`."""
    loop = make(case)
    return lambda number: loop.epoch(number, np.random.default_rng([SEED, number]))


SIDES: dict[str, Callable[[GpuCase], Epoch]] = {
    "ours": our_epochs,
    "timm": functools.partial(loop_epochs, timm_loop),
    "bare": functools.partial(loop_epochs, bare_loop),
}


@dataclass
class Measure:
    """What was measured of one training: seconds of every epoch, CPU seconds of this process, and bytes on the card."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    held: int = 0  # weights, averages and states of the optimizer
    peak: int = 0  # more than is held between the epochs of all trainings, while this one runs

    @property
    def memory(self) -> int:
        """Bytes on the card that this training needs by itself."""
        return self.held + self.peak


def train_in_turns(
    sides: Mapping[str, Callable[[], Epoch]], rounds: int, device: torch.device
) -> tuple[dict[str, Epoch], dict[str, Measure]]:
    """Build trainings, and let each train an epoch in every round, in an order drawn again each time.

    Before the rounds each trains an epoch that does not count, in which libraries choose algorithms and compile.
    """
    clock, shuffle = clock_of(device), np.random.default_rng(SEED)
    measures = {name: Measure() for name in sides}
    epochs = {}
    for name, build in sides.items():
        before = allocated(device)
        epochs[name] = build()
        epochs[name](0)  # it also makes the states of the optimizer
        measures[name].held = allocated(device) - before
    for number in range(1, 1 + rounds):
        for name in shuffle.permutation(list(sides)):
            measure, before = measures[name], allocated(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            start, cpu = clock(), time.process_time()
            epochs[name](number)
            end = clock()
            measure.wall.append(end - start)
            measure.cpu.append(time.process_time() - cpu)
            if device.type == "cuda":
                measure.peak = max(measure.peak, torch.cuda.max_memory_allocated(device) - before)
    return epochs, measures


def allocated(device: torch.device) -> int:
    """Return the bytes that tensors have on a card, and 0 on the CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def busy_seconds(epoch: Callable[[], object], device: torch.device) -> float | None:
    """Return for how many seconds a card computes or copies during an epoch; None on the CPU, or without a profiler.

    The profiler slows the host and not the card, so these seconds are to be compared with an epoch that it did not see.
    """
    if device.type != "cuda":
        epoch()
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        epoch()
        torch.cuda.synchronize(device)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in found.events() or ()
        if event.device_type == torch._C._autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    # A machine whose profiler may not look at the card gives no events. That is no idle card.
    return covered(spans) / 1e6 if spans else None  # microseconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of spans: kernels of two streams can run at the same time."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
