"""Trainings that several processes make on one card, and how they run side by side.

They run in the processes of a search, which stop what hangs, live through a training that fails, and never outlive this one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from fbnetv3.arch import Arch
from fbnetv3.benchmarks.experiments.cifar10_networks import Network, find_network
from fbnetv3.benchmarks.gpu.images import load_kept
from fbnetv3.device import Precision, placed
from fbnetv3.model import build_model
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.trial import Candidate, Outcome
from fbnetv3.training.accuracy import measure
from fbnetv3.training.engine import Engine, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import DivergedError

GRACE = 8.0  # seconds after the end of the time in which a training that takes longer than planned may still end
LEAST = 1.0  # seconds that a training is given at least: it is stopped right after its start, and not before
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Training:
    """What is trained, apart from the number of epochs and the seed.

    Attributes:
        network: an architecture, or a name that `find_network` of the CIFAR-10 experiment knows.
        split: it is measured on all images of this split after the last epoch; None: like after the other epochs.
        every: it trains on every so many-th training image.
        val_every: it is measured on every so many-th validation image after each epoch.
    """

    network: str | Arch
    recipe: Recipe
    split: str | None = None
    every: int = 1
    val_every: int = 1


@dataclass(frozen=True)
class TrainingEvaluator:
    """Makes a `Training`. It has the signature of a search's evaluator, so the processes of a search can run it.

    Attributes:
        files: the kept images, by side in pixels.
    """

    files: Mapping[int, Path]
    device: str
    precision: Precision

    def __call__(self, candidate: Any, epochs: int, seed: int) -> Outcome:
        """Train for `epochs` epochs, and return the accuracy in percent after each of them.

        Args:
            candidate: a `Training`; None only opens the device.
        """
        if candidate is None:
            torch.zeros(1, device=self.device)
            return Outcome((0.0,) * epochs, "ok", 0.0)
        start, training = time.monotonic(), cast(Training, candidate)
        network, recipe = _network(training.network), training.recipe
        file = self.files[network.resolution]
        images = load_kept(file, self.device, training.every, training.val_every)
        model = seeded(lambda: network.build(len(images.classes), recipe), seed)
        engine = Engine(self.device, self.precision)
        try:
            trained = fit(model, recipe, images, seed=seed, epochs=epochs, engine=engine)
        except DivergedError:
            return Outcome((), "diverged", time.monotonic() - start)
        acc1 = trained.acc1
        if training.split is not None:
            last = measure(trained.model, load_kept(file, self.device), training.split, device=placed(self.device))
            acc1 = (*acc1[:-1], last.acc1)
        return Outcome(acc1, "ok", time.monotonic() - start)


@functools.lru_cache(maxsize=8)  # a baseline is built and checked to find it
def _network(network: str | Arch) -> Network:
    if isinstance(network, str):
        return find_network(network)
    return Network(
        network.name,
        network.resolution,
        lambda classes, recipe: build_model(network, classes, 3, recipe.dropout, recipe.stochastic_depth),
    )


def train(pool: ProcessPool, training: Training, epochs: int, seed: int, end: float) -> Outcome:
    """Make one training in a process of the pool. It fails if it has not ended soon after `end`, by time.monotonic()."""
    pool.limit = max(LEAST, end + GRACE - time.monotonic())
    # A pool passes on what it is given, which need not be a search's candidate.
    return dict(pool.run({0: Job(cast(Candidate, training), epochs, seed)}))[0]


def open_device(pool: ProcessPool, count: int) -> None:
    """Start all `count` processes of a pool, and let each import what trainings need and open the device."""
    list(pool.run(dict.fromkeys(range(count), Job(cast(Candidate, None), 1, 0))))


def side_by_side(items: Iterable[K], work: Callable[[K], T], at_once: int) -> Iterator[tuple[K, T]]:
    """Do the work of every item, `at_once` at the same time, and yield each result when it is there."""
    threads = ThreadPoolExecutor(at_once)
    try:
        futures = {threads.submit(work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # Without waiting: after Ctrl-C, the caller must first stop the processes that the threads wait for.
        threads.shutdown(wait=False, cancel_futures=True)
