"""The training loop: one machine, seeded, equal to the last bit for the same seed, versions and thread count on CPU.

Every epoch draws its randomness from (seed, epoch) alone, so a checkpoint holds no generator state and a resumed training
ends with the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fbnetv3.errors import InputError
from fbnetv3.files import load_torch, make_folder, save_torch, write_atomically
from fbnetv3.training.augment import augment, mixup_weight
from fbnetv3.training.data import ImageData, Split, normalise
from fbnetv3.training.optim import learning_rate, make_optimizer
from fbnetv3.training.recipe import Recipe

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
EVAL_BATCH = 500
Progress = Callable[[int, int, str], None]  # steps done, steps in all, a few words


class DivergedError(RuntimeError):
    """The loss is not finite; the message holds step, learning rate and recipe."""


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: mean training loss, and top-1 accuracy in percent of the raw and of the averaged weights."""

    epoch: int  # from 1
    lr: float  # of its last step
    train_loss: float
    raw_acc1: float
    ema_acc1: float | None  # None when the recipe has no EMA


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training: `model` holds the weights that the recipe reports (EMA or raw), in eval mode."""

    model: nn.Module
    metrics: tuple[EpochMetrics, ...]

    @property
    def acc1(self) -> tuple[float, ...]:
        """Accuracy after every epoch, of the weights that the recipe reports."""
        return tuple(m.raw_acc1 if m.ema_acc1 is None else m.ema_acc1 for m in self.metrics)


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run torch with `count` threads inside: results are equal to the last bit only for the same count."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call `build` with torch's generator at `seed`, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: ImageData,
    *,
    seed: int,
    epochs: int | None = None,
    split: str = "val",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train `model` in place on `data.train` and evaluate it on `split` after every epoch.

    Args:
        model: its initial weights are part of what the seed must fix (`seeded`).
        seed: of shuffling, augmentation, mixup, dropout and stochastic depth.
        epochs: stop after so many of the recipe's epochs (the early stopping of section 3.3); the schedule stays.
        out: folder that gets `checkpoint.pt`, `metrics.csv` and `metrics.jsonl` after every epoch.
        resume: go on from the checkpoint in `out`, if there is one.

    Raises:
        InputError: `out` holds a training and `resume` is off, or its checkpoint belongs to another training.
        DivergedError: the loss became infinite or NaN.
    """
    epochs = recipe.epochs if epochs is None else epochs
    if not 1 <= epochs <= recipe.epochs:
        raise InputError(f"epochs is {epochs}; allowed: 1 to the recipe's {recipe.epochs}")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(data.train) // min(recipe.batch_size, len(data.train))
    optimizer = make_optimizer(model.parameters(), recipe)
    ema = (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
        if recipe.ema
        else None
    )
    run = _Run(model, ema, optimizer, recipe, data, seed, steps)
    identity = {"recipe": recipe.to_dict(), "seed": seed, "data": data.name, "threads": torch.get_num_threads()}
    metrics = _resume(run, Path(out), identity, resume) if out is not None else []
    for epoch in range(len(metrics), epochs):
        loss = run.train_epoch(epoch, epochs, progress)
        scores = [evaluate(m, data, data.split(split)) if m is not None else None for m in (model, ema)]
        assert scores[0] is not None
        rate = learning_rate(recipe, (epoch + 1) * steps - 1, steps)
        metrics.append(EpochMetrics(epoch + 1, rate, loss, scores[0], scores[1]))
        if out is not None:
            _save(run, Path(out), identity, metrics)
    best = model if ema is None else ema.module
    return Trained(best.eval(), tuple(metrics))


@dataclass(frozen=True, eq=False)
class _Run:
    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    data: ImageData
    seed: int
    steps: int

    def train_epoch(self, epoch: int, epochs: int, progress: Progress | None) -> float:
        """One pass over the training images; the mean loss."""
        rng = np.random.default_rng([self.seed, epoch])
        train, recipe = self.data.train, self.recipe
        images = augment(train.images, recipe.augmentation, rng)
        order = torch.from_numpy(rng.permutation(len(train)))
        self.model.train()
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))  # dropout and stochastic depth
            for i, rows in enumerate(order.split(min(recipe.batch_size, len(train)))[: self.steps]):
                step = epoch * self.steps + i
                rate = learning_rate(recipe, step, self.steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                x = normalise(images[rows], self.data.mean, self.data.std)
                total += self.step(x, train.labels[rows], rng, f"step {step}, learning rate {rate:g}")
                if progress is not None:
                    progress(step + 1, epochs * self.steps, f"epoch {epoch + 1}/{epochs}, loss {total / (i + 1):.3f}")
        return total / self.steps

    def step(self, x: Tensor, labels: Tensor, rng: np.random.Generator, where: str) -> float:
        """One optimizer step; the loss."""
        weight = mixup_weight(self.recipe.mixup, rng)
        mixed = x if weight == 1.0 else torch.lerp(x.flip(0), x, weight)
        logits = self.model(mixed)
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if weight != 1.0:
            other = F.cross_entropy(logits, labels.flip(0), label_smoothing=smoothing)
            loss = weight * loss + (1 - weight) * other
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"the loss is {value} at {where}; recipe {json.dumps(self.recipe.to_dict())}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return value


@torch.no_grad()
def predict(model: nn.Module, data: ImageData, images: Tensor) -> Tensor:
    """Logits [n, classes] of uint8 images in eval mode; the model's mode is left as it was."""
    training = model.training
    model.eval()
    logits = [model(normalise(part, data.mean, data.std)) for part in images.split(EVAL_BATCH)]
    model.train(training)
    return torch.cat(logits)


def evaluate(model: nn.Module, data: ImageData, split: Split) -> float:
    """Top-1 accuracy in percent."""
    hits = predict(model, data, split.images).argmax(1) == split.labels
    return 100.0 * int(hits.sum()) / len(split)


def _save(run: _Run, out: Path, identity: dict[str, Any], metrics: list[EpochMetrics]) -> None:
    rows = [dataclasses.asdict(m) for m in metrics]
    content = {
        "identity": json.dumps(identity),
        "metrics": rows,
        "model": run.model.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "metrics.csv", table.getvalue())
    write_atomically(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    save_torch(out / CHECKPOINT, content)


def _resume(run: _Run, out: Path, identity: dict[str, Any], resume: bool) -> list[EpochMetrics]:
    """Load the checkpoint of `out` into the run; the metrics of the epochs that it has."""
    path = make_folder(out) / CHECKPOINT
    if not path.exists():
        return []
    if not resume:
        raise InputError(f"{out} already holds a training; resume it, or give another folder")
    content = load_torch(path, "checkpoint", ("identity", "metrics", "model", "ema", "optimizer"))
    saved = json.loads(content["identity"])
    for key, value in identity.items():
        if saved.get(key) != value:
            raise InputError(f"{path} belongs to another training: {key} was {saved.get(key)!r}, now {value!r}")
    try:
        run.model.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path} belongs to another network ({reason}); give another folder") from error
    if run.ema is not None:
        run.ema.load_state_dict(content["ema"])
    run.optimizer.load_state_dict(content["optimizer"])
    metrics = [EpochMetrics(**row) for row in content["metrics"]]
    logger.info("resumed %s after epoch %d", path, len(metrics))
    return metrics
