"""Speed of training on a GPU: this package's engine against timm's parts, with images on the card and from JPEG files.

All trainings of a case take turns. Reading the files is also measured without a network, which shows what limits a training.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fbnetv3.arch import ARCHS, Arch
from fbnetv3.benchmarks.gpu import photos
from fbnetv3.benchmarks.gpu.cases import GpuDevice, Seconds, run_cases, summary_tables
from fbnetv3.benchmarks.gpu.training_sides import (
    RATE,
    SIDES,
    GpuCase,
    Measure,
    busy_seconds,
    synthetic,
    train_in_turns,
)
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.speed.loops import SMALL
from fbnetv3.benchmarks.statistics import speed_ratio
from fbnetv3.benchmarks.tables import Format, Table, ratio
from fbnetv3.device import find_device, synchronise
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.engine import Engine, machine_settings
from fbnetv3.training.process_rank import ProcessRank

CLASSES = 1000  # of the synthetic images
METHOD = (
    "{network} on {side} x {side} pixels at batch {batch}, in bf16 (autocast), channels last, cuDNN tries its algorithms. "
    "Loops take turns, an epoch of each in every round, in an order drawn again; the clock waits for the card. `ours` is the "
    "engine's Trainer, epoch by epoch; `timm` is timm's Mixup, SoftTargetCrossEntropy, create_optimizer_v2, "
    "create_scheduler_v2 and ModelEmaV3, in the order of timm's train.py without its logging; `bare` is forward, loss, "
    "backward and optimizer step on ready batches. Recipe: RMSPropTF, mixup, label smoothing, dropout, stochastic depth, "
    "moving average; learning rate {rate:g}, because the labels mean nothing. `synthetic`: uint8 images of noise on the "
    "card, mirrored there, {steps} steps an epoch. `photos`: JPEG files of {width} x {height} pixels made of coarse and fine "
    "noise, in the memory of the operating system; `ours` is this package's reader, `timm` is timm's create_loader with "
    "pinned memory, without colour jitter, and else with its defaults, both with so many workers, which start with the pass. "
    "`reading`: the faster of two passes without a network, with batches that arrive on the device. On synthetic images "
    "{rounds} epochs of each loop count, on photos one, so that its ratio has no interval. `memory`: bytes of tensors that a "
    "training needs by itself. `busy`: seconds in which the card computes or copies (profiler) over the median time of an "
    "epoch: in the rest it waits for the host. `cpu`: CPU seconds of the training's process over the time of an epoch."
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        arch: the network.
        side: side of the images in pixels.
        batch: images of a step.
        steps: of an epoch of synthetic images.
        rounds: epochs of each loop that count.
        different: JPEG files with different content.
        files: JPEG files.
        workers: numbers of processes that read them.
        stance: what torch.compile does: `default`, or `force_eager` for nothing.
    """

    arch: Arch = ARCHS["fbnetv3_a"]
    side: int = 224
    batch: int = 256
    steps: int = 16
    rounds: int = 5
    different: int = 256
    files: int = 8192
    workers: tuple[int, ...] = (16, 8)
    stance: Literal["default", "force_eager"] = "default"


# Seconds on an H100 with 16 processors, estimated and not measured. A step of 256 images in bf16 moves about 3 x 22 GB, once
# forward and twice backward, so it takes some 60 ms. An epoch of 16 steps then takes 1 s, and the first case about 3 loops x
# 6 epochs + 8 of the profiler = 26 s. A processor decodes and crops about 120 images a second, so 16 of them read 8192 files
# in 4 s: reading takes 2 x 2 x 4 = 16 s, the training on photos 2 x 2 x 5 = 20 s. These three fit 70 s. Compiling takes most
# of a minute, and 8 workers take another one.
FULL = Sizes()
TINY = Sizes(SMALL, 32, 4, 2, 2, 10, 20, (1,), "force_eager")


def measure(seconds: Seconds = 100, device: GpuDevice = "auto", sizes: Sizes = FULL) -> Iterator[Measured]:
    """Measure every case, and yield all values so far after each."""
    place = torch.device(find_device(device))
    words = {"network": sizes.arch.name, "side": sizes.side, "batch": sizes.batch, "rate": RATE, "steps": sizes.steps}
    words |= {"width": photos.SIZE[0], "height": photos.SIZE[1], "rounds": sizes.rounds}
    with tempfile.TemporaryDirectory(prefix="fbnetv3-photos-") as folder:
        write = functools.cache(lambda: photos.write_photos(Path(folder), sizes.different, sizes.files))
        for measured in run_cases(planned(sizes, place, Path(folder), write), seconds, str(place)):
            yield Measured(measured.values, words, measured.facts)


def planned(
    sizes: Sizes, device: torch.device, folder: Path, write: Callable[[], float]
) -> dict[str, Callable[[], Values]]:
    """Return all cases, the most valuable first.

    Args:
        folder: where the JPEG files are.
        write: writes them, once, and returns their mean size in bytes.
    """
    most, *others = sizes.workers
    cases: dict[str, Callable[[], Values]] = {"synthetic": lambda: train_synthetic(sizes, device, "off")}

    def add_photos(workers: int) -> None:
        cases[f"reading {workers}"] = lambda: read_photos(sizes, device, folder, write(), workers)
        cases[f"photos {workers}"] = lambda: train_photos(sizes, device, folder, write(), workers)

    add_photos(most)
    cases["synthetic compiled"] = lambda: train_synthetic(sizes, device, "default")
    for workers in others:
        add_photos(workers)
    return cases


def train_synthetic(sizes: Sizes, device: torch.device, compiled: str) -> Values:
    """Train on images of noise that are on the device."""
    images = synthetic(sizes.steps * sizes.batch, sizes.side, CLASSES, device)
    engine = Engine(str(device), "bf16", compile=compiled)
    case = GpuCase(sizes.arch, sizes.batch, sizes.side, 3, sizes.rounds + 2, sizes.steps, images=images, engine=engine)
    return _train(case, tuple(SIDES), sizes, sizes.rounds, busy=True)


def train_photos(sizes: Sizes, device: torch.device, folder: Path, size: float, workers: int) -> Values:
    """Train on JPEG files: this package's loop with its readers, timm's with timm's."""
    images = on_device(photos.readers(folder, sizes.side, workers), device)
    theirs = photos.TimmFolder.of(folder, sizes.side, workers, device)
    case = GpuCase(
        sizes.arch,
        sizes.batch,
        sizes.side,
        3,
        rounds=3,
        steps=images.count("train") // sizes.batch,
        images=images,
        theirs=theirs,
        augmentation="resized_crop_flip",
        engine=Engine(str(device), "bf16"),
    )
    return {"workers": workers} | _train(case, ("ours", "timm"), sizes, rounds=1, busy=False)


def _train(case: GpuCase, names: Sequence[str], sizes: Sizes, rounds: int, busy: bool) -> Values:
    """Let loops take turns, and return what was measured of them."""
    with machine_settings(case.engine), torch.compiler.set_stance(sizes.stance):
        sides = {name: functools.partial(SIDES[name], case) for name in names}
        epochs, measures = train_in_turns(sides, rounds, case.device)
        number = rounds + 1
        calls = {name: functools.partial(epochs[name], number) for name in names if busy}
        busiest = {name: busy_seconds(call, case.device) for name, call in calls.items()}
    values: Values = {"loops": {}}
    for name, found in measures.items():
        values["loops"][name] = _loop_values(found, case, busiest.get(name))
    wall = {name: found.wall for name, found in measures.items()}
    values["ours_over"] = {name: speed_ratio(wall[name], wall["ours"]).as_dict() for name in names if name != "ours"}
    return values


def _loop_values(found: Measure, case: GpuCase, busy: float | None) -> Values:
    median = float(np.median(found.wall))
    return {
        "images_per_second": round(case.steps * case.batch / median, 1),
        "ms_per_step": round(1e3 * median / case.steps, 3),
        "memory": found.memory,
        "busy": None if busy is None else round(busy / median, 4),
        "cpu": round(float(np.median(found.cpu)) / median, 4),
    }


def read_photos(sizes: Sizes, device: torch.device, folder: Path, size: float, workers: int) -> Values:
    """Pass over JPEG files without a network, and decode some of them with one process and nothing else."""
    some = sorted((folder / "train").rglob("*.jpg"))[: sizes.different]
    start = time.perf_counter()
    photos.decode(some)
    alone = len(some) / (time.perf_counter() - start)
    ours: Data = on_device(photos.readers(folder, sizes.side, workers), device)
    theirs = photos.TimmFolder.of(folder, sizes.side, workers, device)
    rates: dict[str, list[float]] = {"ours": [], "timm": []}
    for number in range(2):
        for name, data in (("ours", ours), ("timm", theirs)):
            rates[name].append(_pass(data, sizes.batch, number, device))
    return {
        "workers": workers,
        "kilobytes": round(size / 1e3, 1),
        "decoding_alone": round(alone, 1),
        "images_per_second": {name: round(max(found), 1) for name, found in rates.items()},
    }


def _pass(data: Any, batch: int, seed: int, device: torch.device) -> float:
    """Return the images a second of a pass over files."""
    start, count = time.perf_counter(), 0
    for _, labels in data.epoch("resized_crop_flip", batch, np.random.default_rng(seed), ProcessRank()):
        count += len(labels)
    synchronise(device)
    return count / (time.perf_counter() - start)


def tables(result: Result) -> dict[str, Table]:
    """Return the images a second of all loops, what a training needs, and what limits one that reads files."""
    cases = result.values["cases"]
    trained = [{"name": name, **row} for name, row in cases.items() if "loops" in row]
    found = {}
    if trained:
        columns: dict[str, Format] = {"images": "{name}"}
        columns |= {f"{name} (images/s)": functools.partial(_rate, name) for name in SIDES}
        columns["ours, times timm"] = _times_timm
        found["loops"] = Table.of(columns, trained)
        rows = [{"images": row["name"], "loop": name, **loop} for row in trained for name, loop in row["loops"].items()]
        found["what a step takes"] = Table.of(
            {
                "images": "{images}",
                "loop": "{loop}",
                "step (ms)": "{ms_per_step:.1f}",
                "memory (GiB)": lambda row: f"{row['memory'] / 2**30:.2f}",
                "card busy": lambda row: "-" if row["busy"] is None else f"{row['busy']:.0%}",
                "CPU": "{cpu:.0%}",
            },
            rows,
        )
    read = [row for name, row in cases.items() if "decoding_alone" in row]
    if read:
        columns = {
            "workers": "{workers}",
            "our readers (images/s)": "{images_per_second[ours]:,.0f}",
            "timm's loader (images/s)": "{images_per_second[timm]:,.0f}",
            "decoding alone, one process": "{decoding_alone:,.0f}",
            "a file (kB)": "{kilobytes:.0f}",
            "a training on files is limited by": lambda row: _limit(cases, row),
        }
        found["reading JPEG files"] = Table.of(columns, read)
    return found | summary_tables(result)


def _rate(name: str, row: Values) -> str:
    return f"{row['loops'][name]['images_per_second']:,.0f}" if name in row["loops"] else "-"


def _times_timm(row: Values) -> str:
    found = row["ours_over"]["timm"]
    # One epoch of each loop has no interval, which a bootstrap of it would show as one without width.
    return ratio(found) if found["low"] < found["high"] else f"{found['ratio']:.2f} (one epoch)"


def _limit(cases: Values, read: Values) -> str:
    """Say what limits a training on files: the slower of reading and of training without reading."""
    if "synthetic" not in cases:
        return "-"
    training = cases["synthetic"]["loops"]["ours"]["images_per_second"]
    reading = read["images_per_second"]["ours"]
    return f"{'reading' if reading < training else 'training'} ({min(reading, training):,.0f} images/s)"


BENCHMARK = Benchmark(
    "gpu_training",
    METHOD,
    ("torch", "torchvision", "timm", "pillow", "triton", "numpy"),
    measure,
    tables=tables,
    quick={"sizes": TINY},
)
