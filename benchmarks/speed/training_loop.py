"""Speed of the training loop against a loop of timm's parts, and its overhead over the same step written by hand.

    fbnetv3 benchmark loop-speed

takes some ten minutes, wants a machine that does nothing else, and writes `results/loop_speed.json`. `--rounds 6` is a
rehearsal; give it another `--out`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
from fbnetv3.benchmarks.ratio import Ratio, speed_ratio
from fbnetv3.benchmarks.result import RESULTS, Result, command_of, host, versions, write_result
from fbnetv3.benchmarks.speed.data import coloured
from fbnetv3.benchmarks.speed.inference import MICRO
from fbnetv3.model import build_model
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.accuracy import measure as evaluate
from fbnetv3.training.data.augment import PADDING
from fbnetv3.training.data.memory import BLOCK, Batch, ImageData, Split, fashion_mnist
from fbnetv3.training.loop import cpu_threads, fit, seeded
from fbnetv3.training.optim import learning_rate, make_optimizer
from fbnetv3.training.process_rank import Share
from fbnetv3.training.recipe import Recipe

NAME = "loop_speed"
SEED, STEPS, WARMUP = 0, 4, 2  # steps of an epoch, which is a round; rounds before the clock counts
# Of timm's loop from the one by hand after the first epoch: weights as a share of the largest change, the mean loss of itself.
SAME = {"timm_difference": 0.02, "loss_difference": 1e-5}
SPEED_TARGET, OVERHEAD_TARGET = 1.0, 0.03
METHOD = (
    "Four loops train the same network from the same weights on the same batches, in one process on one thread, and take "
    f"turns: a round is an epoch of {STEPS} steps of each, in an order drawn anew in every round, and the first {WARMUP} "
    "rounds do not count. `ours` is `fit` itself; the clock starts when it asks its data for an epoch and stops when it "
    "reports the last step (`progress`, in which the others take their turns), so that building, evaluation and what "
    "`fit` does once an epoch after its last step are not in it, while the epoch's random numbers and everything done per "
    "step are. Before every turn each network is evaluated as `fit` does, off the clock. `by_hand` is the same step with "
    "nothing around it: the same tensor operations spelt out (augmentation, mixup, loss, the same optimizer, moving "
    "average of weights and running statistics) and rates computed beforehand. `timm` is timm's Mixup, "
    "SoftTargetCrossEntropy, create_optimizer_v2, create_scheduler_v2 and ModelEmaV3 on this package's augmented batches "
    "(timm has no loader of tensors in memory); it neither logs nor looks at its loss. `bare` is forward, loss, backward "
    "and optimizer step on ready batches: no augmentation, mixup, average, schedule. Recipe: RMSPropTF, no decay of norms "
    "and biases, mixup, label smoothing, dropout, stochastic depth, moving average, warm-up and exponential schedule, "
    "crop_flip; channels last, uint8 images in memory (Fashion-MNIST). `ms_per_step` and `images_per_second` are of the "
    "median round; `ours_over_timm` is the images a second of `ours` over those of `timm`, `overhead` what `ours` takes "
    "longer than `by_hand` as a share of the latter, both ratios of medians with the 95% bootstrap interval over rounds; "
    "`cpu_*` are the same of the process's CPU time instead of the clock on the wall. In the same run `ours` and "
    "`by_hand` must end with weights, running statistics and averages equal to the last bit, and `timm`, which draws the "
    "same random numbers, must after the first epoch be as near as rounding leaves it (`timm_difference`: largest "
    "difference of a weight, running statistic or average of these, as a share of the largest change of its kind; "
    "`loss_difference`: of the epoch's mean loss)."
)
SMALL = Arch("small", 28, Block("conv", 8, k=3, s=4), ((Block("ir", 8, k=3, n=2),),), Block("pool", 16, e=2))
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
    """What is trained: a network on batches of square images, so many rounds; channels 1, or 3 (coloured)."""

    arch: Arch
    batch: int
    side: int
    channels: int
    rounds: int

    @property
    def recipe(self) -> Recipe:
        """Everything that a recipe can ask of a step in one process without a teacher."""
        return RECIPE.replace(epochs=self.rounds, batch_size=self.batch)

    def network(self) -> nn.Module:
        """A fresh network; the same weights every time."""
        recipe = self.recipe

        def build() -> nn.Module:
            return build_model(self.arch, 10, self.channels, recipe.dropout, recipe.stochastic_depth)

        return seeded(build, SEED).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def data(self, begin: Callable[[], None] = lambda: None) -> Watched:
        """An epoch of `STEPS` batches to train on, and two images to evaluate on."""
        full, count = fashion_mnist(), STEPS * self.batch
        images = full.train.images[:count]
        if self.channels == 3:
            images = torch.from_numpy(coloured(count)).permute(0, 3, 1, 2)
        images = F.interpolate(images, (self.side, self.side)).contiguous()
        labels = full.train.labels[:count]
        val = Split(images[:2], labels[:2])
        return Watched(NAME, full.classes, full.mean, full.std, Split(images, labels), val, val, begin)


CASES = {
    "small": Case(SMALL, batch=128, side=28, channels=1, rounds=400),
    "micro": Case(MICRO, batch=64, side=28, channels=1, rounds=100),
    "fbnetv3_a": Case(ARCHS["fbnetv3_a"], batch=32, side=64, channels=3, rounds=50),
}


@dataclass(frozen=True, eq=False)
class Watched(ImageData):
    """Images that tell when an epoch of them is asked for: whatever came before it is done."""

    begin: Callable[[], None]

    def epoch(
        self, augmentation: str, batch_size: int, rng: np.random.Generator, share: Share, start: int = 0
    ) -> Iterator[Batch]:
        """See `ImageData.epoch`."""
        self.begin()
        return super().epoch(augmentation, batch_size, rng, share, start)


@dataclass
class Watch:
    """Seconds of every turn, on the wall and of the process's CPU time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    _started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """A turn begins."""
        self._started = (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        """A turn is over."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.wall.append(wall - self._started[1])
        self.cpu.append(cpu - self._started[0])


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop beside `fit`: `epoch(number, rng)` trains one and gives its mean loss; what it trains."""

    epoch: Callable[[int, np.random.Generator], float]
    model: nn.Module
    average: nn.Module | None  # moving average of `model`


class SeededMixup(Mixup):  # type: ignore[misc]
    """timm's, its weight drawn from an explicit generator as `fit` draws it and not from numpy's global one."""

    rng: np.random.Generator

    def _params_per_batch(self) -> tuple[float, bool]:
        return float(self.rng.beta(self.mixup_alpha, self.mixup_alpha)), False


def by_hand(case: Case) -> Loop:
    """The tensor operations of a step of `fit`, spelt out."""
    recipe, data, model = case.recipe, case.data(), case.network()
    average = copy.deepcopy(model)
    optimizer = make_optimizer(model, recipe)
    weights, averages = states(model), states(average)
    rates = [learning_rate(recipe, step, STEPS) for step in range(STEPS * recipe.epochs)]
    count, side, smoothing = STEPS * case.batch, case.side, recipe.label_smoothing
    together = BLOCK // case.batch * case.batch  # images that are augmented at once
    line, wide = torch.arange(side), side + 2 * PADDING

    def shifted(rows: Tensor, flipped: Tensor, corner: Tensor) -> Tensor:
        padded, n = F.pad(data.train.images[rows], (PADDING,) * 4), len(rows)
        row = line.expand(n, side) + corner[0, rows][:, None]
        column = line.expand(n, side) + corner[1, rows][:, None]
        column = torch.where(flipped[rows][:, None], wide - 1 - column, column)
        pixel = (row[:, :, None] * wide + column[:, None, :]).view(n, 1, side * side)
        chosen = padded.reshape(n, case.channels, -1).gather(2, pixel.expand(n, case.channels, side * side))
        return chosen.view(n, case.channels, side, side)

    def epoch(number: int, rng: np.random.Generator) -> float:
        flipped = torch.from_numpy(rng.random(count) < 0.5)
        corner = torch.from_numpy(rng.integers(0, 2 * PADDING + 1, (2, count)))
        order = torch.from_numpy(rng.permutation(count))
        torch.manual_seed(int(rng.integers(2**62)))
        model.train()
        summed = 0.0
        for step in range(STEPS):
            first = step * case.batch
            if first % together == 0:
                images = shifted(order[first : first + together], flipped, corner)
            x = images[first % together :][: case.batch].contiguous(memory_format=torch.channels_last)
            x = x.float().sub_(255 * data.mean).div_(255 * data.std)
            y = data.train.labels[order[first : first + case.batch]]
            for group in optimizer.param_groups:
                group["lr"] = rates[number * STEPS + step]
            weight = float(rng.beta(recipe.mixup, recipe.mixup))
            optimizer.zero_grad()
            logits = model(torch.lerp(x.flip(0), x, weight))
            own = F.cross_entropy(logits, y, label_smoothing=smoothing)
            other = F.cross_entropy(logits, y.flip(0), label_smoothing=smoothing)
            loss = weight * own + (1 - weight) * other
            summed += loss.item()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1 - recipe.ema_decay if number or step else 1.0)
        return summed / STEPS

    return Loop(epoch, model, average)


def timm_loop(case: Case) -> Loop:
    """The same training of timm's parts, in the order of timm's train.py."""
    recipe, data, model = case.recipe, case.data(), case.network()
    optimizer = create_optimizer_v2(
        model,
        "rmsproptf",
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        filter_bias_and_bn=True,
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
        warmup_lr=learning_rate(recipe, 0, STEPS),
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=STEPS,
    )
    mixup = SeededMixup(recipe.mixup, label_smoothing=recipe.label_smoothing, num_classes=len(data.classes))
    criterion, average = SoftTargetCrossEntropy(), ModelEmaV3(model, recipe.ema_decay)

    def epoch(number: int, rng: np.random.Generator) -> float:
        mixup.rng = rng
        batches = data.epoch(recipe.augmentation, case.batch, rng, Share())
        torch.manual_seed(int(rng.integers(2**62)))
        model.train()
        losses = []
        for update, batch in enumerate(batches, start=number * STEPS + 1):
            x, y = mixup(*batch)
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            average.update(model, step=update)
            scheduler.step_update(update)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return Loop(epoch, model, average.module)


def bare_loop(case: Case) -> Loop:
    """Forward, loss, backward, step; the rate is that after warm-up."""
    recipe, model = case.recipe, case.network()
    optimizer = make_optimizer(model, recipe)
    batches = list(case.data().epoch(recipe.augmentation, case.batch, np.random.default_rng(SEED), Share()))

    def epoch(number: int, rng: np.random.Generator) -> float:
        model.train()
        losses = []
        for x, y in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return Loop(epoch, model, None)


LOOPS = {"by_hand": by_hand, "timm": timm_loop, "bare": bare_loop}


def states(model: nn.Module) -> list[Tensor]:
    """Weights and running statistics; batch norms' counters of batches, which nothing reads, are left out."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


def equal(found: nn.Module, expected: nn.Module) -> bool:
    """Whether weights and running statistics are equal to the last bit."""
    return all(torch.equal(a, b) for a, b in zip(states(found), states(expected), strict=True))


def difference(found: Loop, expected: Loop, start: nn.Module) -> float:
    """The largest difference of two trainings from `start`, as a share of the largest change of its kind.

    Kinds are weights and running statistics, of the network and of its average. (A bias before a batch norm moves by rounding
    errors alone, so that no tensor is compared with its own change.)
    """
    shares = []
    for a, b in ((found.model, expected.model), (found.average, expected.average)):
        assert a is not None and b is not None  # noqa: PT018
        for kind in (nn.Module.parameters, nn.Module.buffers):
            rows = [row for row in zip(kind(a), kind(b), kind(start), strict=True) if row[0].is_floating_point()]
            change = max(_gap(y, z) for _, y, z in rows)
            shares.append(max(_gap(x, y) for x, y, _ in rows) / change)
    return max(shares)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def run_case(case: Case) -> dict[str, Any]:
    """All loops in turns; times, ratios and the proof that the loops do the same.

    Raises:
        RuntimeError: they do not.
    """
    watches = {name: Watch() for name in ("ours", *LOOPS)}
    loops = {name: make(case) for name, make in LOOPS.items()}
    shuffle = np.random.default_rng(SEED)
    seen: dict[str, float] = {}
    data = case.data(watches["ours"].start)

    def take_turns(done: int, _total: int, _text: str) -> None:
        if done % STEPS:
            return
        watches["ours"].stop()
        number = done // STEPS - 1
        losses = {name: _turn(loops[name], number, data, watches[name]) for name in shuffle.permutation(list(LOOPS))}
        if number == 0:
            seen["timm_difference"] = difference(loops["timm"], loops["by_hand"], case.network())
            seen["loss_difference"] = abs(losses["timm"] / losses["by_hand"] - 1)
            if not all(seen[key] <= limit for key, limit in SAME.items()):
                raise RuntimeError(f"timm's loop does not train as by_hand does: {seen}; allowed: {SAME}")

    model = case.network()
    trained = fit(model, case.recipe, data, seed=SEED, progress=take_turns)
    hand = loops["by_hand"]
    if hand.average is None or not (equal(model, hand.model) and equal(trained.model, hand.average)):
        raise RuntimeError("`fit` and by_hand end with different weights, running statistics or averages")
    return {"rounds": case.rounds - WARMUP, **_figures(case, watches), "ours_equals_by_hand": True, **seen}


def _turn(loop: Loop, number: int, data: ImageData, watch: Watch) -> float:
    """Evaluate as `fit` has just done, then train an epoch by the clock."""
    for model in (loop.model, loop.average):
        if model is not None:
            evaluate(model, data, "val")
    rng = np.random.default_rng([SEED, number])
    watch.start()
    value = loop.epoch(number, rng)
    watch.stop()
    return value


def _figures(case: Case, watches: Mapping[str, Watch]) -> dict[str, Any]:
    wall = {name: watch.wall[WARMUP:] for name, watch in watches.items()}
    cpu = {name: watch.cpu[WARMUP:] for name, watch in watches.items()}
    median = {name: float(np.median(times)) for name, times in wall.items()}
    return {
        "ms_per_step": {name: round(1e3 * value / STEPS, 4) for name, value in median.items()},
        "images_per_second": {name: round(STEPS * case.batch / value, 1) for name, value in median.items()},
        "ours_over_timm": dataclasses.asdict(speed_ratio(wall["timm"], wall["ours"])),
        "overhead": _overhead(wall),
        "ours_over_bare": dataclasses.asdict(speed_ratio(wall["bare"], wall["ours"])),
        "cpu_ours_over_timm": dataclasses.asdict(speed_ratio(cpu["timm"], cpu["ours"])),
        "cpu_overhead": _overhead(cpu),
    }


def _overhead(times: Mapping[str, list[float]]) -> dict[str, float]:
    """What our step takes longer than by hand, as a share of the latter, with its 95% interval."""
    longer: Ratio = speed_ratio(times["ours"], times["by_hand"])
    return {"share": round(longer.ratio - 1, 4), "low": round(longer.low - 1, 4), "high": round(longer.high - 1, 4)}


def targets(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the package aims at, and whether this run met it."""
    rows: dict[str, Any] = {}
    for name, row in values.items():
        ratio, share = row["ours_over_timm"]["ratio"], row["overhead"]["share"]
        rows[f"{name}_ours_over_timm"] = {"value": ratio, "at_least": SPEED_TARGET, "met": ratio >= SPEED_TARGET}
        rows[f"{name}_overhead"] = {"value": share, "below": OVERHEAD_TARGET, "met": share < OVERHEAD_TARGET}
    return rows


def run(cases: Mapping[str, Case]) -> dict[str, Any]:
    """All cases, then the targets."""
    with cpu_threads(1):
        values = {name: run_case(case) for name, case in cases.items()}
    return values | {"targets": targets(values)}


def main(argv: list[str] | None = None) -> Result:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog=command_of(NAME), description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"of every network, above {WARMUP}")
    parser.add_argument("--networks", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="the result file")
    options = parser.parse_args(argv)
    cases = {name: CASES[name] for name in options.networks}
    words = [f"{command_of(NAME)}"]
    if options.rounds is not None:
        cases = {name: dataclasses.replace(case, rounds=options.rounds) for name, case in cases.items()}
        words.append(f"--rounds {options.rounds}")
    if len(cases) < len(CASES):
        words.append(f"--networks {' '.join(cases)}")
    facts = host() | {
        "cpu": cpu_model(),
        "threads": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "niceness": str(os.getpriority(os.PRIO_PROCESS, 0)),
    }
    result = Result.now(
        command=" ".join(words),
        method=METHOD,
        versions=versions(["torch", "timm", "numpy"]) | facts,
        values=run(cases),
    )
    write_result(options.out.stem, result, options.out.parent)
    print(json.dumps(result.values, indent=1))
    return result


if __name__ == "__main__":
    main()
