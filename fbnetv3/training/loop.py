"""The training loop, on one process or many: seeded, equal to the last bit for the same seed, versions and threads on CPU.

    trained = fit(build_model("fbnetv3_a", 10, 1), load_recipe("fashion_mnist/micro"), fashion_mnist())

Every epoch draws its randomness from (seed, epoch) alone; a checkpoint within an epoch holds the generators too. So a
training that is killed and resumed ends with the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.model import FBNetV3
from fbnetv3.training.accuracy import measure
from fbnetv3.training.checkpoint import EpochMetrics, Position, State, resume_from, save, save_best
from fbnetv3.training.data.augment import mixup_weight
from fbnetv3.training.data.memory import Data
from fbnetv3.training.distributed import average_buffers, current_share, gathered, synchronise_norms, total, wrap
from fbnetv3.training.losses import Target, loss
from fbnetv3.training.optim import MovingAverage, learning_rate, make_optimizer
from fbnetv3.training.process_rank import Share
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.stop_signal import StopRequest, stop_request
from fbnetv3.weight_file import UNKNOWN

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # steps done, steps in all, a few words


class DivergedError(RuntimeError):
    """The loss is not finite; the message holds step, learning rate and recipe."""


@dataclass(frozen=True)
class Engine:
    """How a training is run, apart from what the recipe means.

    The batch of a process is worked off in `accumulate` parts, each with batch statistics of its own. `checkpoint_steps`
    writes a checkpoint within epochs too, every so many steps; 0 only after each.
    """

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights, optimizer and EMA stay float32
    accumulate: int = 1
    compile: bool = False  # torch.compile the network
    checkpoint_steps: int = 0
    tensorboard: bool = False  # also write event files; needs the tensorboard package

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision is {self.precision!r}; allowed: fp32, bf16")
        for name, low in (("accumulate", 1), ("checkpoint_steps", 0)):
            if type(getattr(self, name)) is not int or getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: whole numbers from {low}")


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training: `model` holds the weights that the recipe reports (EMA or raw), in eval mode."""

    model: nn.Module
    metrics: tuple[EpochMetrics, ...]

    @property
    def acc1(self) -> tuple[float, ...]:
        """Accuracy after every epoch, of the weights that the recipe reports."""
        return tuple(m.acc1 for m in self.metrics)


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
    data: Data,
    *,
    seed: int = 0,
    epochs: int | None = None,
    split: str = "val",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    engine: Engine = Engine(),
    teacher: nn.Module | None = None,
) -> Trained:
    """Train `model` in place on `data`'s training images and evaluate it on `split` after every epoch.

    In the processes of `torchrun` (see `distributed.processes`) each trains on its part of every batch.

    Args:
        model: its initial weights are part of what the seed must fix (`seeded`).
        seed: of shuffling, augmentation, mixup, dropout and stochastic depth.
        epochs: stop after so many of the recipe's epochs (the early stopping of section 3.3); the schedule stays.
        out: folder that gets `checkpoint.pt`, `best.pt`, `metrics.csv` and `metrics.jsonl`. With it, SIGTERM and Ctrl-C
            end the training at its next step, with a checkpoint.
        resume: go on from the checkpoint in `out`, if there is one.
        teacher: its logits are distilled if the recipe says so; it is put into eval mode.

    Raises:
        InputError: `out` holds a training and `resume` is off, or its checkpoint belongs to another training; a recipe that
            distils and no teacher; a batch that the processes cannot share.
        DivergedError: the loss became infinite or NaN.
    """
    epochs = recipe.epochs if epochs is None else epochs
    if not 1 <= epochs <= recipe.epochs:
        raise InputError(f"epochs is {epochs}; allowed: 1 to the recipe's {recipe.epochs}")
    if recipe.distillation and teacher is None:
        raise InputError(
            f"the recipe distils with weight {recipe.distillation}: give a teacher, or set distillation to 0"
        )
    if recipe.distillation and teacher is not None:
        _inherit(model, teacher)
    run = _Run.start(model, recipe, data, seed, engine, teacher if recipe.distillation else None)
    with contextlib.ExitStack() as stack:
        request = StopRequest() if out is None else stack.enter_context(stop_request())
        journal = _Journal(run, None if out is None else Path(out), resume, request)
        if engine.tensorboard and out is not None and run.share.rank == 0:
            journal.events = stack.enter_context(_events(Path(out)))
        for epoch in range(len(journal.metrics), epochs):
            mean_loss = run.train_epoch(epoch, epochs, journal, progress)
            journal.add(run.measured(epoch, mean_loss, split), last=epoch + 1 == epochs)
    return Trained(run.reported.eval(), tuple(journal.metrics))


@dataclass(frozen=True, eq=False)
class _Run:
    state: State
    forward: nn.Module  # the model as it is called: compiled, wrapped for several processes
    recipe: Recipe
    data: Data
    seed: int
    engine: Engine
    teacher: nn.Module | None
    share: Share
    device: torch.device
    batch: int  # images of a step, all processes together
    steps: int  # of an epoch

    @classmethod
    def start(
        cls, model: nn.Module, recipe: Recipe, data: Data, seed: int, engine: Engine, teacher: nn.Module | None
    ) -> _Run:
        share, device = current_share(), torch.device(engine.device)
        batch = min(recipe.batch_size, data.count("train"))
        if share.local(batch) % engine.accumulate:
            raise InputError(
                f"a process's batch of {share.local(batch)} cannot be worked off in {engine.accumulate} equal parts"
            )
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.sync_bn:
            model = synchronise_norms(model, share, device)
        optimizer = make_optimizer(model, recipe)
        ema = MovingAverage(model, recipe.ema_decay) if recipe.ema else None
        if teacher is not None:
            teacher.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        called = wrap(model, share, device)
        if engine.compile:
            called = torch.compile(called)  # type: ignore[assignment]
        steps = data.count("train") // batch
        return cls(
            State(model, ema, optimizer), called, recipe, data, seed, engine, teacher, share, device, batch, steps
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between a checkpoint and its resumption."""
        engine = {key: asdict(self.engine)[key] for key in ("precision", "accumulate")}
        return {
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "data": self.data.name,
            "threads": torch.get_num_threads(),
            **engine,
        }

    @property
    def reported(self) -> nn.Module:
        """The network whose weights the recipe reports."""
        ema = self.state.ema
        return self.state.model if ema is None else ema.module

    def train_epoch(self, epoch: int, epochs: int, journal: _Journal, progress: Progress | None) -> float:
        """One pass over the training images, from where the journal stands; the mean loss of all processes."""
        rng = np.random.default_rng([self.seed, epoch])
        position, journal.position = journal.position, None
        done, summed = (position.step, position.losses[self.share.rank]) if position is not None else (0, 0.0)
        batches = self.data.epoch(self.recipe.augmentation, self.batch, rng, self.share, done)
        generator_seed = int(rng.integers(2**62)) + self.share.rank
        for _ in range(done):
            mixup_weight(self.recipe.mixup, rng)
        self.forward.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(generator_seed)  # dropout and stochastic depth
            if position is not None:
                self._set_generator(position.generators[self.share.rank])
            for i, (x, labels) in enumerate(batches, start=done):
                step = epoch * self.steps + i
                rate = learning_rate(self.recipe, step, self.steps)
                for group in self.state.optimizer.param_groups:
                    group["lr"] = rate
                summed += self.step(x, labels, rng, f"step {step}, learning rate {rate:g}")
                if progress is not None:
                    text = f"epoch {epoch + 1}/{epochs}, loss {summed / (i + 1):.3f}"
                    progress(step + 1, epochs * self.steps, text)
                if i + 1 < self.steps:
                    journal.between_steps(i + 1, summed)
        return total([summed], self.share, self.device)[0] / self.share.world / self.steps

    def step(self, x: Tensor, labels: Tensor, rng: np.random.Generator, where: str) -> float:
        """One optimizer step; the loss of this process."""
        weight = mixup_weight(self.recipe.mixup, rng)
        x, labels = x.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        mixed = x if weight == 1.0 else torch.lerp(x.flip(0), x, weight)
        target = Target(labels, labels.flip(0), weight, self._taught(mixed))
        self.state.optimizer.zero_grad(set_to_none=True)
        parts = self.engine.accumulate
        value = 0.0
        for i, rows in enumerate(_parts(len(mixed), parts)):
            with self._no_sync(last=i + 1 == parts):
                with self._autocast():
                    logits = self.forward(mixed[rows] if parts > 1 else mixed)
                part = loss(logits.float(), target.part(rows) if parts > 1 else target, self.recipe)
                value += part.item() / parts
                if not math.isfinite(value):
                    raise DivergedError(f"the loss is {value} at {where}; recipe {json.dumps(self.recipe.to_dict())}")
                (part / parts if parts > 1 else part).backward()
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.state.model.parameters(), self.recipe.clip_norm)
        self.state.optimizer.step()
        average_buffers(self.state.model, self.share)
        if self.state.ema is not None:
            self.state.ema.update()
        return value

    def measured(self, epoch: int, mean_loss: float, split: str) -> EpochMetrics:
        """The metrics of an epoch that has been trained."""
        raw = measure(self.state.model, self.data, split, self.share, self.device)
        ema = None if self.state.ema is None else measure(self.state.ema, self.data, split, self.share, self.device)
        rate = learning_rate(self.recipe, (epoch + 1) * self.steps - 1, self.steps)
        ema1, ema5 = (None, None) if ema is None else (ema.acc1, ema.acc5)
        return EpochMetrics(epoch + 1, rate, mean_loss, raw.acc1, ema1, raw.acc5, ema5)

    def generator(self) -> Tensor:
        """State of the generator that dropout and stochastic depth draw from."""
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def _set_generator(self, state: Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)

    def _taught(self, x: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), self._autocast():
            return self.teacher(x).float()  # type: ignore[no-any-return]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.engine.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _no_sync(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes once a step, with its last part."""
        if last or self.share.world == 1:
            return contextlib.nullcontext()
        return self.forward.no_sync()  # type: ignore[operator,no-any-return]


class _Journal:
    """What is known of the training on disk: its epochs, and where it stands in the next."""

    def __init__(self, run: _Run, out: Path | None, resume: bool, request: StopRequest) -> None:
        self.run, self.out, self.request = run, out, request
        self.metrics: list[EpochMetrics] = []
        self.position: Position | None = None
        self.events: Any = None
        if out is not None:
            self.metrics, self.position = resume_from(run.state, out, run.identity, resume, run.share.world)

    def add(self, metrics: EpochMetrics, last: bool) -> None:
        """An epoch is done. A checkpoint that cannot be written is a warning, unless it is the last one."""
        best = all(metrics.acc1 > m.acc1 for m in self.metrics)
        self.metrics.append(metrics)
        if self.events is not None:
            for key, value in asdict(metrics).items():
                if value is not None and key != "epoch":
                    self.events.add_scalar(key, value, metrics.epoch)
        if self.out is None:
            return
        if self.run.share.rank == 0:
            try:
                if best:
                    save_best(self.run.reported, self.out, metrics)
                save(self.run.state, self.out, self.run.identity, self.metrics)
            except InputError as error:
                if last:
                    raise
                logger.warning("epoch %d is not saved, the training goes on: %s", metrics.epoch, error)
        if self._asked() and not last:
            self.request.raise_()

    def between_steps(self, step: int, summed: float) -> None:
        """A step within the epoch is done: save if it is time, stop if that was asked for."""
        every = self.run.engine.checkpoint_steps
        asked = self._asked()
        if self.out is None or not (asked or (every and step % every == 0)):
            return
        losses, generators = zip(*gathered((summed, self.run.generator()), self.run.share), strict=True)
        if self.run.share.rank == 0:
            save(self.run.state, self.out, self.run.identity, self.metrics, Position(step, losses, generators))
        if asked:
            self.request.raise_()

    def _asked(self) -> bool:
        """Whether any process was asked to stop."""
        asked = self.request.signal is not None
        return total([asked], self.run.share, self.run.device)[0] > 0 if self.out is not None else asked


def _inherit(model: nn.Module, teacher: nn.Module) -> None:
    """What is learnt from a teacher is bound by the licences of the teacher's weights too."""
    if isinstance(model, FBNetV3):
        origins = getattr(teacher, "derived_from", (UNKNOWN,))
        model.derived_from = tuple(dict.fromkeys((*model.derived_from, *origins)))


def _parts(count: int, parts: int) -> list[slice]:
    size = count // parts
    return [slice(i * size, (i + 1) * size) for i in range(parts)]


def _events(out: Path) -> Any:
    """A writer of TensorBoard's event files."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard's files need its package: pip install tensorboard") from None
    return SummaryWriter(str(out / "tensorboard"))
