"""Evaluators: callables `(candidate, epochs, seed) -> Outcome`, the only thing a search knows of trainings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fbnetv3.model import build_model
from fbnetv3.search.space import Candidate
from fbnetv3.training.data import load_images
from fbnetv3.training.loop import DivergedError, Progress, Trained, cpu_threads, fit, seeded


@dataclass(frozen=True)
class Outcome:
    """Accuracy in percent after every epoch (empty if diverged), the status, and the seconds it took."""

    acc1: tuple[float, ...]
    status: str  # ok | diverged
    seconds: float


Evaluator = Callable[[Candidate, int, int], Outcome]


@dataclass(frozen=True)
class ImageEvaluator:
    """Trains a candidate on the training images of a set and measures it on the validation images, on one thread."""

    data: str

    def __call__(self, candidate: Candidate, epochs: int, seed: int) -> Outcome:
        """Train for the first `epochs` of the recipe."""
        start = time.monotonic()
        try:
            acc1, status = self.train(candidate, epochs, seed).acc1, "ok"
        except DivergedError:
            acc1, status = (), "diverged"
        return Outcome(acc1, status, round(time.monotonic() - start, 3))

    def train(
        self, candidate: Candidate, epochs: int, seed: int, out: Path | None = None, *, resume: bool = False,
        progress: Progress | None = None,
    ) -> Trained:  # fmt: skip
        """The same training with its network, its files in `out` if given, and its progress."""
        data, recipe = load_images(self.data), candidate.recipe
        with cpu_threads(1):
            model = seeded(
                lambda: build_model(
                    candidate.arch, len(data.classes), data.in_chans, recipe.dropout, recipe.stochastic_depth
                ),
                seed,
            )
            return fit(model, recipe, data, seed=seed, epochs=epochs, out=out, resume=resume, progress=progress)
