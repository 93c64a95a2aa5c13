"""A network in training: what one step and one epoch do to it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fbnetv3.counts import check_seed
from fbnetv3.device import kept_generators, placed, restore_generators, seed_generators
from fbnetv3.errors import InputError, Note
from fbnetv3.layers import use_channels_last
from fbnetv3.training.accuracy import measure
from fbnetv3.training.checkpoint import EpochMetrics, Position, State
from fbnetv3.training.data.augment import mixup_weight
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.epoch import draw_epoch
from fbnetv3.training.data.protocol import Data, class_counts, training_images
from fbnetv3.training.distributed import average_buffers, current_process, synchronise_norms, total, wrap
from fbnetv3.training.dry_run import check_network
from fbnetv3.training.engine import DEFAULT_ENGINE, Engine, fetch_steps
from fbnetv3.training.losses import balanced_weights, loss, mix
from fbnetv3.training.network.depth import freeze_stages
from fbnetv3.training.optim import learning_rate, make_average, make_optimizer, set_learning_rate
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.resume import DATA, DEVICE, THREADS, TRAIN_DATA
from fbnetv3.training.scaler import Scaler
from fbnetv3.training.step_losses import DivergedError as DivergedError
from fbnetv3.training.step_losses import StepLosses

logger = logging.getLogger(__name__)

AfterStep = Callable[[int, int, StepLosses], None]  # epoch from 0, steps of it done, their losses in this process


@dataclass(frozen=True, eq=False)
class Trainer:
    """Everything that training a network takes. `Trainer.start` makes one."""

    state: State
    network: nn.Module  # the model as it is called: wrapped for several processes, or compiled
    no_sync: Callable[[], contextlib.AbstractContextManager[Any]]  # inside, gradients are not averaged over processes
    recipe: Recipe
    data: Data
    seed: int
    engine: Engine
    teacher: nn.Module | None
    process: ProcessRank
    device: torch.device
    batch: int  # images of a step, over all processes
    steps: int  # steps of an epoch
    class_weights: Tensor | None  # of the loss, float32 [classes], on the device
    frozen: tuple[nn.Module, ...]  # modules that stay in eval mode
    fetch_steps: int  # losses are fetched from the device after every so many steps

    @classmethod
    def start(
        cls,
        model: nn.Module,
        recipe: Recipe,
        data: Data,
        seed: int = 0,
        engine: Engine = DEFAULT_ENGINE,
        teacher: nn.Module | None = None,
    ) -> Trainer:
        """Prepare `model`, in place, for its first step.

        A batch that is larger than the set is the whole set, and a warning says so.

        Raises:
            InputError: a batch that cannot be divided among the processes, or into the engine's parts; a network that cannot
                take these images; no seed.
        """
        seed = check_seed(seed)
        process, device = current_process(), placed(engine.device)
        count = data.count("train")
        batch = min(recipe.batch_size, count)
        if batch < recipe.batch_size and process.rank == 0:
            warnings.warn(
                f"batch_size is {recipe.batch_size}, but there are {count} images to train on: every step uses all of them, "
                "at the learning rate of the recipe",
                Note,
                stacklevel=2,
            )
        if (local := process.local_batch(batch)) % engine.accumulate:
            raise InputError(
                f"accumulate is {engine.accumulate}, which does not divide a process's batch of {local} images evenly; "
                f"give a divisor of {local}"
            )
        use_channels_last(model.to(device))
        if recipe.sync_bn:
            model = synchronise_norms(model, process, device)
        frozen = freeze_stages(model, recipe.frozen_stages).modules if recipe.frozen_stages else ()
        check_network(model, data, local // engine.accumulate, device)
        data = on_device(data, device)
        # The optimizer and the average hold on to the parameters, so the model must have its final form here.
        optimizer = make_optimizer(model, recipe)
        ema = make_average(model, recipe)
        if teacher is not None:
            use_channels_last(teacher.to(device)).eval()
        network = wrap(model, process, device)
        no_sync = network.no_sync if isinstance(network, DistributedDataParallel) else contextlib.nullcontext
        if engine.compile != "off":
            network = cast(nn.Module, torch.compile(network, mode=str(engine.compile)))
        steps = data.count("train") // batch
        state, every = State(model, ema, optimizer, Scaler(engine.precision, device.type)), fetch_steps(device)
        weights = balanced_weights(class_counts(data)).to(device) if recipe.class_weights == "balanced" else None
        where = (process, device, batch, steps, weights, frozen, every)
        return cls(state, network, no_sync, recipe, data, seed, engine, teacher, *where)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a training is resumed, so that it ends as if it had never stopped."""
        return {
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            DATA: self.data.name,
            TRAIN_DATA: training_images(self.data),
            DEVICE: self.device.type,
            THREADS: torch.get_num_threads(),
            "precision": self.engine.precision,
            "accumulate": self.engine.accumulate,
        }

    def train_epoch(self, epoch: int, position: Position | None, after_step: AfterStep) -> float:
        """Train on all training images once and return the sum of the losses of the epoch's steps in this process.

        Args:
            epoch: number of the epoch, from 0. All randomness of an epoch comes from (seed, epoch).
            position: where to continue within the epoch; None to start it.
            after_step: called after every step.

        Raises:
            DivergedError: a loss is infinite or NaN, or in fp16 all gradients are.
        """
        rank = self.process.rank
        done, loss_sum = (0, 0.0) if position is None else (position.step, position.losses[rank])
        losses, skipped_before = StepLosses(self.recipe, loss_sum, done), self.state.scaler.skipped
        batches, rng, torch_seed = draw_epoch(self.data, self.recipe, self.seed, epoch, self.process, done)
        for _ in range(done):
            mixup_weight(self.recipe.mixup, rng)  # drawn and dropped, so that the next step draws what it would have
        self.network.train()
        for module in self.frozen:
            module.eval()
        with kept_generators(self.device):
            seed_generators(torch_seed, self.device)  # dropout and stochastic depth draw from torch's generators
            if position is not None:
                restore_generators(position.states(rank), self.device)
            for step, (x, labels) in enumerate(batches, start=done):
                in_all = epoch * self.steps + step
                rate = learning_rate(self.recipe, in_all, self.steps)
                # Set in every step instead of by torch's schedulers, whose state would have to be saved too.
                set_learning_rate(self.state.optimizer, rate)
                losses.add(self.step(x, labels, rng), f"step {in_all}, learning rate {rate:g}")
                if (step + 1) % self.fetch_steps == 0 or step + 1 == self.steps:
                    losses.fetch()
                    self._check_scale(in_all)
                after_step(epoch, step + 1, losses)
        if rank == 0 and (skipped := self.state.scaler.skipped - skipped_before):
            text = "epoch %d: fp16 left out %d of %d steps, whose gradients were too large; a few are normal"
            logger.warning(text, epoch + 1, skipped, self.steps - done)
        return losses.fetch()

    def step(self, x: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """Make one optimizer step on a batch. Nothing in it waits for the device, except fp16's scaler.

        Args:
            x: inputs float32 [n, c, h, w], the part of this process, on the device or the CPU.
            labels: int64 [n].
            rng: draws the mixup weight.

        Returns:
            The losses of the parts of the batch in this process, float32 [accumulate], on the device.
        """
        weight = mixup_weight(self.recipe.mixup, rng)
        x, labels = x.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        if self.device.type != "cpu" and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # as the weights are; custom data may come otherwise
        losses = self.backward(x, labels, None if weight == 1.0 else weight)
        self.update()
        return losses

    def backward(self, x: Tensor, labels: Tensor, weight: float | Tensor | None) -> Tensor:
        """Compute the losses of a batch on the device, and their gradients: the part of a step that a CUDA graph can hold.

        Args:
            weight: mixup weight of each image; the image that it is mixed with has the rest. None: no mixup. A graph keeps
                a number for ever, but reads a tensor (float32, on the device) again in every replay.

        Returns:
            The losses of the parts of the batch, float32 [accumulate].
        """
        mixed, target = mix(x, labels, weight)
        target = replace(target, teacher=self._teacher_logits(mixed))
        self.state.optimizer.zero_grad(set_to_none=True)
        parts = self.engine.accumulate
        losses = []
        if self.engine.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # the gradients of the step before may be written over
        for i, rows in enumerate(_equal_parts(len(mixed), parts)):
            # Averaging gradients over the processes is slow, and the last part's average covers all parts.
            with contextlib.nullcontext() if i + 1 == parts else self.no_sync():
                with self._autocast():
                    logits = self.network(mixed[rows] if parts > 1 else mixed)
                part = loss(logits.float(), target.part(rows) if parts > 1 else target, self.recipe, self.class_weights)
                self.state.scaler.scale(part / parts if parts > 1 else part).backward()
                losses.append(part.detach())
        return torch.stack(losses)

    def update(self) -> None:
        """Change the weights by their gradients, and the averages by the weights.

        In fp16 the gradients may be infinite. Weights and averages then stay as they are.
        """
        state = self.state
        if self.recipe.clip_norm:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip_norm)
        skipped_before = state.scaler.skipped
        state.scaler.step(state.optimizer)
        state.scaler.update()
        average_buffers(state.model, self.process)
        # fp16 often leaves out the first steps. The average would start at random weights, and keep them for long.
        if state.ema is not None and state.scaler.skipped == skipped_before:
            state.ema.update()

    def measure_epoch(self, epoch: int, loss_sum: float, split: str) -> EpochMetrics:
        """Return the metrics of a trained epoch.

        Args:
            epoch: number of the epoch, from 0.
            loss_sum: sum of the losses of its steps in this process.
            split: the images that the accuracies are measured on.

        Raises:
            DivergedError: a weight is infinite or NaN. The loss of the last step could not show it.
            InputError: the split cannot be measured.
        """
        self.check_weights(f"after epoch {epoch + 1}")
        mean_loss = total([loss_sum], self.process, self.device)[0] / self.process.world_size / self.steps
        raw = measure(self.state.model, self.data, split, self.process, self.device)
        ema = None if self.state.ema is None else measure(self.state.ema, self.data, split, self.process, self.device)
        rate = learning_rate(self.recipe, (epoch + 1) * self.steps - 1, self.steps)
        ema1, ema5 = (None, None) if ema is None else (ema.acc1, ema.acc5)
        return EpochMetrics(epoch + 1, rate, mean_loss, raw.acc1, ema1, raw.acc5, ema5)

    def check_weights(self, where: str) -> None:
        """Check that all weights are finite, which the losses so far cannot show.

        Raises:
            DivergedError: a weight is infinite or NaN.
        """
        finite = [parameter.isfinite().all() for parameter in self.state.model.parameters()]
        if finite and not torch.stack(finite).all():  # one message from the device
            raise DivergedError.at(f"weights are infinite or NaN {where}", self.recipe)

    def check_position(self, position: Position | None) -> None:
        """Check that the training can continue where a checkpoint says.

        Raises:
            InputError: the epoch has fewer steps, or there is no state of a generator.
        """
        if position is None:
            return
        if position.step > self.steps:
            raise InputError(
                f"the checkpoint is at step {position.step} of an epoch of {self.steps}; give another folder"
            )
        try:
            with kept_generators(self.device):
                restore_generators(position.states(self.process.rank), self.device)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"the checkpoint was changed: no state of a generator ({error}); give another folder"
            ) from None

    def _check_scale(self, step: int) -> None:
        if self.state.scaler.vanished():
            what = f"the gradients are infinite at step {step}, however small fp16's scale of them is"
            raise DivergedError.at(f"{what}; use bf16, a lower learning rate or clip_norm", self.recipe)

    def _teacher_logits(self, x: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), self._autocast():
            logits: Tensor = self.teacher(x)
            return logits.float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.engine.precision in ("fp32", "tf32"):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.engine.precision == "bf16" else torch.float16)


def _equal_parts(count: int, parts: int) -> Iterator[slice]:
    """Divide `count` rows into equal slices; `Trainer.start` has checked that this is possible."""
    size = count // parts
    return (slice(i * size, (i + 1) * size) for i in range(parts))
