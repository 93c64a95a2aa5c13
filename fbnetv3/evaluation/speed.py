"""How fast a network is as it is, on the device where it is: one image at a time, and many at once."""

from __future__ import annotations

import functools
import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fbnetv3.device import clock_of, device_words, tf32_units
from fbnetv3.inference.optimize import time_calls
from fbnetv3.pages.plots import count

BATCH = 32  # images at once, where so many are measured on


@dataclass(frozen=True)
class BatchTime:
    """Times of a call with `batch` images, in milliseconds: the median, and the fastest and slowest call."""

    batch: int
    ms: float
    fastest: float
    slowest: float

    @property
    def images_per_s(self) -> float:
        """Images a second, by the median."""
        return 1000 * self.batch / self.ms

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        ends = {"ms_fastest": self.fastest, "ms_slowest": self.slowest}
        return {"batch": self.batch, "ms": self.ms, **ends, "images_per_s": self.images_per_s}


@dataclass(frozen=True)
class Speed:
    """Times of a network alone, without reading images. `device` also says how many threads the CPU used."""

    device: str
    side: int
    calls: int
    batches: tuple[BatchTime, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        rows = [row.to_dict() for row in self.batches]
        return {"device": self.device, "side": self.side, "calls": self.calls, "batches": rows}


def measure_speed(model: nn.Module, in_chans: int, side: int, device: torch.device, batch: int = BATCH) -> Speed:
    """Return the times of a network in eval mode, computed in full float32, for 1 image and for `batch` images.

    The calls take turns, and each has another one before it that is not timed. The network is run as it is: `fbnetv3 export`
    and `optimize_for_inference` may make it faster.
    """
    generator = torch.Generator().manual_seed(0)
    # The time does not depend on the pixels.
    noise = torch.randn(batch, in_chans, side, side, generator=generator).to(device, memory_format=torch.channels_last)
    calls = {str(size): functools.partial(model, noise[:size]) for size in dict.fromkeys((1, batch))}
    with torch.no_grad(), tf32_units(used=False):
        times = time_calls(calls, clock=clock_of(device))
    rows = tuple(
        BatchTime(int(size), *(1000 * f(seconds) for f in (statistics.median, min, max)))
        for size, seconds in times.items()
    )
    threads = f"cpu, {count(torch.get_num_threads(), 'thread')}"
    return Speed(
        threads if device.type == "cpu" else device_words(str(device)), side, len(next(iter(times.values()))), rows
    )
