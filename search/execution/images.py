"""Evaluators: callables `(candidate, epochs, seed) -> Outcome`, the only thing a search knows of trainings."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fbnetv3.model import build_model
from fbnetv3.search.space.space import Candidate
from fbnetv3.training.data.load import image_side, load_data
from fbnetv3.training.data.memory import Data
from fbnetv3.training.loop import DivergedError, Engine, Progress, Trained, cpu_threads, fit, seeded


@dataclass(frozen=True)
class Outcome:
    """Accuracy in percent after every epoch (empty unless ok), the status, and the seconds it took.

    `diverged`: the loss became infinite or NaN, which says something of the candidate; `failed`: the training ended for
    another reason (`error`), which does not.
    """

    acc1: tuple[float, ...]
    status: Literal["ok", "diverged", "failed"]
    seconds: float
    error: str = ""


Evaluator = Callable[[Candidate, int, int], Outcome]


@dataclass(frozen=True)
class ImageEvaluator:
    """Trains a candidate on the training images of a set and measures it on the validation images, on one thread.

    Args:
        data: as `fbnetv3.training.data.load.load_data` takes it; pictures from files have the candidate's resolution.
        readers: processes of every training that read pictures.
    """

    data: str
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    readers: int = 0

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """Train for the first `epochs` of the recipe."""
        start = time.monotonic()
        status: Literal["ok", "diverged"] = "ok"
        try:
            acc1 = self.train(candidate, epochs, seed).acc1
        except DivergedError:
            acc1, status = (), "diverged"
        return Outcome(acc1, status, round(time.monotonic() - start, 3))

    def images(self, resolution: int) -> Data:
        """What a candidate of that resolution is trained on."""
        return _load(self.data, image_side(self.data, resolution), self.readers)

    def train(
        self,
        candidate: Candidate,
        epochs: int,
        seed: int,
        out: Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> Trained:
        """The same training with its network, its files in `out` if given, and its progress."""
        data, recipe = self.images(candidate.arch.resolution), candidate.recipe
        engine = Engine(self.device, self.precision)
        with cpu_threads(1):
            model = seeded(
                lambda: build_model(
                    candidate.arch, len(data.classes), data.transforms.in_chans, recipe.dropout, recipe.stochastic_depth
                ),
                seed,
            )
            return fit(
                model, recipe, data, seed=seed, epochs=epochs, out=out, resume=resume, progress=progress, engine=engine
            )


@functools.lru_cache(maxsize=2)
def _load(data: str, resolution: int | None, readers: int) -> Data:
    return load_data(data, resolution=resolution, workers=readers)
