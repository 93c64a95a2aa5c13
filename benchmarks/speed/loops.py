"""The training loops that `training_loop.py` compares: a step by hand, timm's parts, and the least that a training does."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F

from fbnetv3.arch import ARCHS, Arch, Block
from fbnetv3.benchmarks.speed.data import coloured
from fbnetv3.benchmarks.speed.inference import MICRO
from fbnetv3.layers import use_channels_last
from fbnetv3.model import build_model
from fbnetv3.training.data.augment import PADDING
from fbnetv3.training.data.memory import BLOCK, ImageData, Split
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.protocol import Batch
from fbnetv3.training.engine import seeded
from fbnetv3.training.optim import learning_rate, make_optimizer
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.recipe import Recipe

SEED = 0
STEPS = 4  # of an epoch; an epoch of each loop is one round of the benchmark
SMALL = Arch("small", 28, Block("conv", 8, k=3, s=4), ((Block("ir", 8, k=3, n=2),),), Block("pool", 16, e=2))
# Everything that a recipe can ask of a step in one process without a teacher. Epochs and batch size are those of the case.
RECIPE = Recipe(
    optimizer="rmsprop_tf",
    lr=2e-3,
    epochs=1,
    batch_size=2,
    weight_decay=1e-4,
    decay_norm_bias=False,
    warmup_epochs=1.0,
    lr_decay=0.99,
    mixup=0.2,
    dropout=0.2,
    stochastic_depth=0.2,
    ema=True,
    ema_decay=0.99,
    label_smoothing=0.1,
    augmentation="crop_flip",
)


@dataclass(frozen=True)
class Case:
    """What all loops train.

    Attributes:
        arch: the network.
        batch: images per step.
        side: side of the square images in pixels.
        channels: 1 for grey images, 3 for coloured ones.
        rounds: number of epochs.
        steps: number of steps of an epoch.
    """

    arch: Arch
    batch: int
    side: int
    channels: int
    rounds: int
    steps: int = STEPS

    @property
    def recipe(self) -> Recipe:
        """The recipe of all loops."""
        return RECIPE.replace(epochs=self.rounds, batch_size=self.batch)

    def network(self) -> nn.Module:
        """Return a new network with the same weights every time."""
        recipe = self.recipe

        def build() -> nn.Module:
            return build_model(self.arch, 10, self.channels, recipe.dropout, recipe.stochastic_depth)

        return use_channels_last(seeded(build, SEED))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a loop calls the network and its loss."""
        return contextlib.nullcontext()

    def called(self, model: nn.Module) -> nn.Module:
        """Return the network as a loop calls it."""
        return model

    def data(self, begin: Callable[[], None] = lambda: None) -> Watched:
        """Return an epoch of `STEPS` batches to train on, and two images to evaluate on.

        Args:
            begin: called when an epoch is asked for.
        """
        full, count = fashion_mnist(), STEPS * self.batch
        images = full.train.images[:count]
        if self.channels == 3:
            images = torch.from_numpy(coloured(count)).permute(0, 3, 1, 2)
        images = F.interpolate(images, (self.side, self.side)).contiguous()
        labels = full.train.labels[:count]
        # `fit` evaluates after every epoch. Two images keep that short; it is not what is measured.
        val = Split(images[:2], labels[:2])
        return Watched("loop_speed", full.classes, full.mean, full.std, Split(images, labels), val, val, begin)


CASES = {
    "small": Case(SMALL, batch=128, side=28, channels=1, rounds=400),
    "micro": Case(MICRO, batch=64, side=28, channels=1, rounds=100),
    "fbnetv3_a": Case(ARCHS["fbnetv3_a"], batch=32, side=64, channels=3, rounds=50),
}


@dataclass(frozen=True, eq=False)
class Watched(ImageData):
    """Images in memory that call `begin` when an epoch is asked for. What `fit` does before an epoch is done by then."""

    begin: Callable[[], None]

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, process: ProcessRank, start: int = 0
    ) -> Iterator[Batch]:
        """Return the batches of an epoch, as `ImageData.epoch` does."""
        self.begin()
        return super().epoch(augmentation, batch_size, rng, process, start)


@dataclass(frozen=True, eq=False)
class Loop:
    """A training loop besides `fit`.

    Attributes:
        epoch: trains the epoch with the given number and returns its mean loss.
        model: what it trains.
        average: the moving average of `model`, or None.
    """

    epoch: Callable[[int, np.random.Generator], float]
    model: nn.Module
    average: nn.Module | None


class SeededMixup(Mixup):  # type: ignore[misc]
    """timm's mixup with a weight from an explicit generator, drawn as `fit` draws it.

    timm draws from numpy's global generator, so that its loop could not see the same batches.
    """

    rng: np.random.Generator

    def _params_per_batch(self) -> tuple[float, bool]:
        return float(self.rng.beta(self.mixup_alpha, self.mixup_alpha)), False


def crop_flip(images: Tensor, rows: Tensor, flipped: Tensor, corner: Tensor) -> Tensor:
    """Return the images `rows`, padded, some of them mirrored, and cropped at `corner`: one gather does all three."""
    count, (channels, side) = len(rows), images.shape[1:3]
    line, wide = torch.arange(side), side + 2 * PADDING
    padded = F.pad(images[rows], (PADDING,) * 4)
    row = line.expand(count, side) + corner[0, rows][:, None]
    column = line.expand(count, side) + corner[1, rows][:, None]
    column = torch.where(flipped[rows][:, None], wide - 1 - column, column)
    pixel = (row[:, :, None] * wide + column[:, None, :]).view(count, 1, side * side)
    chosen = padded.reshape(count, channels, -1).gather(2, pixel.expand(count, channels, side * side))
    return chosen.view(count, channels, side, side)


def by_hand(case: Case) -> Loop:
    """Return the loop that does the tensor operations of a step of `fit`, and nothing around them."""
    recipe, data, model = case.recipe, case.data(), case.network()
    average = copy.deepcopy(model)
    optimizer = make_optimizer(model, recipe)
    weights, averages = states(model), states(average)
    # Rates are computed beforehand: the schedule is part of the overhead of `fit`, and no tensor operation.
    rates = [learning_rate(recipe, step, STEPS) for step in range(STEPS * recipe.epochs)]
    count, smoothing = STEPS * case.batch, recipe.label_smoothing
    together = BLOCK // case.batch * case.batch  # `fit` augments so many images at once

    def epoch(number: int, rng: np.random.Generator) -> float:
        # The order of these draws is that of `fit`: only so do both see the same batches.
        flipped = torch.from_numpy(rng.random(count) < 0.5)
        corner = torch.from_numpy(rng.integers(0, 2 * PADDING + 1, (2, count)))
        order = torch.from_numpy(rng.permutation(count))
        torch.manual_seed(int(rng.integers(2**62)))
        model.train()
        summed = 0.0
        for step in range(STEPS):
            first = step * case.batch
            # `fit` augments several batches in one call, which is faster. By hand it is done in the same blocks.
            if first % together == 0:
                images = crop_flip(data.train.images, order[first : first + together], flipped, corner)
            x = images[first % together :][: case.batch].contiguous(memory_format=torch.channels_last)
            x = x.float().sub_(255 * data.mean).div_(255 * data.std)
            y = data.train.labels[order[first : first + case.batch]]
            for group in optimizer.param_groups:
                group["lr"] = rates[number * STEPS + step]
            weight = float(rng.beta(recipe.mixup, recipe.mixup))
            optimizer.zero_grad()
            logits = model(torch.lerp(x.flip(0), x, weight))
            # Mixup with the reversed batch, as in `fit`: the loss of two labels is the weighted sum of two losses.
            own = F.cross_entropy(logits, y, label_smoothing=smoothing)
            other = F.cross_entropy(logits, y.flip(0), label_smoothing=smoothing)
            loss = weight * own + (1 - weight) * other
            summed += loss.item()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                # The first step copies the weights into the average, which starts from there.
                torch._foreach_lerp_(averages, weights, 1 - recipe.ema_decay if number or step else 1.0)
        return summed / STEPS

    return Loop(epoch, model, average)


def timm_loop(case: Case) -> Loop:
    """Return the same training by timm's parts, in the order of timm's train.py."""
    recipe, data, model = case.recipe, case.data(), case.network()
    optimizer = create_optimizer_v2(
        model,
        "rmsproptf",
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        filter_bias_and_bn=True,  # no weight decay for norms and biases, as in the recipe
        alpha=recipe.alpha,
        eps=recipe.eps,
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="step",
        decay_epochs=1,
        decay_rate=recipe.lr_decay,
        num_epochs=recipe.epochs,
        warmup_epochs=int(recipe.warmup_epochs),
        warmup_lr=learning_rate(recipe, 0, case.steps),
        warmup_prefix=True,  # the decay begins after the warm-up
        step_on_epochs=False,
        updates_per_epoch=case.steps,
    )
    mixup = SeededMixup(recipe.mixup, label_smoothing=recipe.label_smoothing, num_classes=len(data.classes))
    criterion, average = SoftTargetCrossEntropy(), ModelEmaV3(model, recipe.ema_decay)
    network = case.called(model)

    def epoch(number: int, rng: np.random.Generator) -> float:
        mixup.rng = rng
        batches = data.epoch(recipe.augmentation, case.batch, rng, ProcessRank())
        torch.manual_seed(int(rng.integers(2**62)))
        model.train()
        losses = []
        for update, batch in enumerate(batches, start=number * case.steps + 1):
            x, y = mixup(*batch)
            optimizer.zero_grad()
            with case.autocast():
                loss = criterion(network(x), y)
            loss.backward()
            optimizer.step()
            average.update(model, step=update)
            scheduler.step_update(update)
            losses.append(loss.detach())  # .item() here would wait for the device, which timm's loop does not
        return float(torch.stack(losses).mean())

    return Loop(epoch, model, average.module)


def bare_loop(case: Case) -> Loop:
    """Return the loop of forward, loss, backward and optimizer step on ready batches, at the constant rate after warm-up."""
    recipe, model = case.recipe, case.network()
    optimizer = make_optimizer(model, recipe)
    network = case.called(model)
    batches = list(case.data().epoch(recipe.augmentation, case.batch, np.random.default_rng(SEED), ProcessRank()))

    def epoch(number: int, rng: np.random.Generator) -> float:
        model.train()
        losses = []
        for x, y in batches:
            optimizer.zero_grad()
            with case.autocast():
                loss = F.cross_entropy(network(x), y, label_smoothing=recipe.label_smoothing)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return Loop(epoch, model, None)


# `ours`, which is `fit` itself, is not among them: it drives the turns of these.
LOOPS = {"by_hand": by_hand, "timm": timm_loop, "bare": bare_loop}


def states(model: nn.Module) -> list[Tensor]:
    """Return weights and running statistics. The batch counters of batch norms, which nothing reads, are left out."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


def equal(found: nn.Module, expected: nn.Module) -> bool:
    """Whether weights and running statistics are equal to the last bit."""
    return all(torch.equal(a, b) for a, b in zip(states(found), states(expected), strict=True))


def difference(found: Loop, expected: Loop, start: nn.Module) -> float:
    """Return the largest difference between two trainings from `start`, as a share of the largest change of its kind.

    The kinds are weights and running statistics, of the network and of its average. A tensor is not compared with its own
    change: a bias before a batch norm moves by rounding errors alone.
    """
    shares = []
    for a, b in ((found.model, expected.model), (found.average, expected.average)):
        if a is None or b is None:
            raise ValueError("only loops with a moving average can be compared")
        for kind in (nn.Module.parameters, nn.Module.buffers):
            rows = [row for row in zip(kind(a), kind(b), kind(start), strict=True) if row[0].is_floating_point()]
            change = max(_gap(y, z) for _, y, z in rows)
            shares.append(max(_gap(x, y) for x, y, _ in rows) / change)
    return max(shares)


def _gap(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute difference of two tensors."""
    return float((a - b).detach().abs().max())
