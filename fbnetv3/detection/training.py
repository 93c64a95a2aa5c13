"""Training of a detector with detectron2's solver and hooks, plus an exponential moving average (EMA) of the weights.

    model, report = load_detector(cfg)
    results = train(cfg, model, resume=False)

Every step draws its batch, its augmentation and the sampling of boxes from (SEED, step, process) alone, and a checkpoint
contains everything else. So a training that is killed and resumed ends with the weights of an uninterrupted one: on a CPU to
the last bit, with the same versions and threads. Several processes that `torchrun` starts train together
(`fbnetv3.training.distributed.process_group`), each on its part of every batch.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import JSONWriter, TensorboardXWriter
from torch import nn

from fbnetv3.detection.batches import TrainingBatches, iterate_batches
from fbnetv3.detection.checkpoint import Checkpointer
from fbnetv3.detection.config import as_input_error
from fbnetv3.detection.datasets import (
    Record,
    check_class_count,
    check_same_classes,
    class_names,
    dataset_of,
    keep_annotated,
    load_records,
)
from fbnetv3.detection.detector_weights import CONFIG, WEIGHTS
from fbnetv3.detection.detectron2_model import seed_of
from fbnetv3.detection.evaluation import Metrics, evaluate
from fbnetv3.detection.images import ImageMapper
from fbnetv3.detection.on_gpu import gpu_settings, send_images
from fbnetv3.device import kept_generators, seed_generators
from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder, make_folder, save_torch, write_atomically
from fbnetv3.progress import Report
from fbnetv3.training.distributed import average_buffers, current_process, wrap
from fbnetv3.training.optim import MovingAverage
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.scaler import Scaler
from fbnetv3.training.stop_signal import StopRequest, stop_now, stop_request

logger = logging.getLogger(__name__)

MEMORY = (
    "lower SOLVER.IMS_PER_BATCH or INPUT.MIN_SIZE_TRAIN, or train with more GPUs"  # what to do if a GPU has too little
)
StepHook = Callable[[Any], None]  # is called with detectron2's trainer, which has no types


def train(cfg: CfgNode, model: nn.Module, *, resume: bool = False, progress: Report | None = None) -> Metrics:
    """Train a detector in place up to step `SOLVER.MAX_ITER` and return its last evaluation.

    `OUTPUT_DIR` gets checkpoints, `config.yaml`, `metrics.json`, TensorBoard's event files and, at the end, `weights.pth`.
    That file has the averaged weights if MODEL_EMA is enabled, and the raw weights otherwise. It also has the class names
    and the registered weights that the detector derives from, because their licences bind it. SIGTERM, SIGUSR1 and Ctrl-C end
    the training after the current step, with a checkpoint.

    Raises:
        InputError: data or a config that cannot be used; a folder that is in use, or with a training while `resume` is off, or
            with one of another config; a loss that is not finite.
    """
    if not cfg.OUTPUT_DIR:
        raise InputError("there is no folder to write to: set OUTPUT_DIR, or give --out")
    process = current_process()
    with contextlib.ExitStack() as stack:
        if process.rank == 0:  # the only process that writes
            stack.enter_context(lock_folder(cfg.OUTPUT_DIR, "training"))
        stack.enter_context(gpu_settings(torch.device(cfg.MODEL.DEVICE), MEMORY))
        return _train(cfg, model, process, resume, progress)


def _train(cfg: CfgNode, model: nn.Module, process: ProcessRank, resume: bool, progress: Report | None) -> Metrics:
    """Train in a folder that no other process writes."""
    out, device = make_folder(cfg.OUTPUT_DIR), torch.device(cfg.MODEL.DEVICE)
    with as_input_error("detectron2 cannot train with this config: "):
        batches, classes, test_records = _load_data(cfg, process)
        # Optimizer, average and checkpoints use the bare model, whose keys lack the prefix that several processes would add.
        optimizer = build_optimizer(cfg, model)
        scheduler = build_lr_scheduler(cfg, optimizer)
    ema = MovingAverage(model, cfg.MODEL_EMA.DECAY) if cfg.MODEL_EMA.ENABLED else None
    scaler = _grad_scaler(cfg)
    parts = {"optimizer": optimizer, "scheduler": scheduler, "ema": ema, "scaler": scaler}
    checkpointer = Checkpointer(cfg, model, classes, {key: part for key, part in parts.items() if part is not None})
    start = checkpointer.resume(resume)
    if process.rank == 0:
        # `Detector.load` and `--eval-only` read it. A resumed training may have changed keys that do not change the weights.
        write_atomically(out / CONFIG, cfg.dump())
    # The batches before `start` are not even drawn: each is a function of its step.
    read = iterate_batches(batches, start, cfg.DATALOADER.NUM_WORKERS)
    loader = (send_images(batch, device) for batch in read)
    arguments = wrap(model.train(), process, device), loader, optimizer
    trainer = SimpleTrainer(*arguments) if scaler is None else AMPTrainer(*arguments, grad_scaler=scaler)
    evaluations = _Evaluations(cfg, model, ema, test_records, progress)

    def write_weights() -> None:
        if process.rank == 0:
            origins = getattr(model, "derived_from", ())
            _write_weights(out / WEIGHTS, model if ema is None else ema.module, classes, origins)

    with stop_request() as request:
        # detectron2 calls the hooks in this order.
        trainer.register_hooks(
            [
                hooks.CallbackHook(before_step=_seed_step(seed_of(cfg), process.rank, device)),
                hooks.LRScheduler(optimizer, scheduler),
                hooks.CallbackHook(after_step=_update_averages(model, ema, scaler, progress)),
                hooks.CallbackHook(after_step=_save_step(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, request)),
                # After checkpoint and weights, so that an evaluation that fails loses no step and no result.
                hooks.CallbackHook(after_step=_after_the_last(write_weights)),
                hooks.CallbackHook(after_step=evaluations.after_step),
                *_writers(out, process.rank),
            ]
        )
        # The global generator is seeded in every step. A caller's random numbers must not depend on that.
        with _one_line_errors(), kept_generators(device):
            trainer.train(start, cfg.SOLVER.MAX_ITER)
    if evaluations.last is None:  # a training that is resumed after its last step makes no step
        write_weights()
        return evaluations.run()
    return evaluations.last


def _load_data(cfg: CfgNode, process: ProcessRank) -> tuple[TrainingBatches, tuple[str, ...], list[Record]]:
    """Return the batches of a config, the names of its classes, and the records of its test data.

    The test data is checked here too, so that a mistake in it ends the training before the first step and not after days.
    """
    train_name, test_name = dataset_of(cfg, "TRAIN"), dataset_of(cfg, "TEST")
    # Images without boxes would only add steps in which nothing but background is learnt.
    records = keep_annotated(load_records(train_name), train_name)
    test_records = load_records(test_name)
    check_class_count(cfg, train_name)
    check_same_classes(train_name, test_name)
    mapper, solver = ImageMapper(cfg, True), cfg.SOLVER
    batches = TrainingBatches(records, mapper, solver.IMS_PER_BATCH, seed_of(cfg), solver.MAX_ITER, process)
    return batches, class_names(train_name), test_records


def _seed_step(seed: int, rank: int, device: torch.device) -> StepHook:
    """Return a hook that seeds torch before a step, so that the boxes are sampled from (seed, step, process) alone."""

    def seed_step(trainer: Any) -> None:
        # The factors are primes, larger than any count of steps and of processes: no two steps share a seed.
        seed_generators(((seed * 1_000_003 + trainer.iter) * 10_007 + rank) % 2**64, device)

    return seed_step


def _update_averages(
    model: nn.Module, ema: MovingAverage | None, scaler: Scaler | None, progress: Report | None
) -> StepHook:
    """Return a hook that, after a step, averages the running statistics of all processes, updates the EMA, and reports."""
    skipped = 0

    def update_averages(trainer: Any) -> None:
        nonlocal skipped
        average_buffers(model, current_process())  # before the EMA, which averages the running statistics too
        skipped_before, skipped = skipped, 0 if scaler is None else scaler.skipped
        # The first steps of fp16 are often left out, and the average would start at weights that nothing has trained.
        if ema is not None and skipped == skipped_before:
            ema.update()
        if progress is not None:
            loss = trainer.storage.latest().get("total_loss", (math.nan,))[0]
            progress(trainer.iter + 1, trainer.max_iter, f"training, loss {loss:.3f}")

    return update_averages


def _after_the_last(act: Callable[[], None]) -> StepHook:
    """Return a hook that calls a function after the last step."""

    def after_step(trainer: Any) -> None:
        if trainer.iter + 1 == trainer.max_iter:
            act()

    return after_step


def _save_step(checkpointer: Checkpointer, period: int, request: StopRequest) -> StepHook:
    """Return a hook that saves every `period` steps and after the last, and ends the training when that was requested."""

    def save_step(trainer: Any) -> None:
        step, last = trainer.iter + 1, trainer.iter + 1 == trainer.max_iter
        asked = request.agreed(current_process(), checkpointer.device)
        if last or asked or (period > 0 and step % period == 0):
            try:
                checkpointer.write(step)
            except InputError as error:
                # A full disk may have room again at the next checkpoint. There is no next one here.
                if last or asked:
                    raise
                logger.warning("step %d is not saved, the training continues: %s", step, error)
        if asked and not last:
            # The other processes wait here until the first one has saved: `srun` may kill it as soon as one of them ends.
            stop_now(request.agreed(current_process(), checkpointer.device) or asked)

    return save_step


class _Evaluations:
    """Evaluates the raw and the averaged weights on the test images, every TEST.EVAL_PERIOD steps and after the last."""

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        ema: MovingAverage | None,
        records: Sequence[Record],
        progress: Report | None,
    ) -> None:
        self.cfg, self.records, self.progress = cfg, records, progress
        # Both, because the average needs many steps until it is better than the raw weights.
        self.models = {"raw": model} | ({} if ema is None else {"ema": ema.module})
        self.last: Metrics | None = None

    def after_step(self, trainer: Any) -> None:
        """Evaluate after a step if it is time, and write the results into the training's metrics."""
        step, period = trainer.iter + 1, self.cfg.TEST.EVAL_PERIOD
        if step == trainer.max_iter or (period > 0 and step % period == 0):
            for key, value in self.run().items():
                if math.isfinite(value):  # detectron2's storage refuses NaN, the AP of a class without boxes
                    trainer.storage.put_scalar(key, value, smoothing_hint=False)

    def run(self) -> Metrics:
        """Return the metrics of both: the keys of the raw weights begin with `raw/`, those of the average with `ema/`."""
        out = Path(self.cfg.OUTPUT_DIR)
        results = {
            kind: evaluate(self.cfg, model, out / kind, self.progress, self.records)
            for kind, model in self.models.items()
        }
        self.last = {f"{kind}/{key}": value for kind, row in results.items() for key, value in row.items()}
        return self.last


def _grad_scaler(cfg: CfgNode) -> Scaler | None:
    """Return the gradient scaler of mixed precision, or None if the config does not enable it."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        raise InputError(
            f"SOLVER.AMP.ENABLED is on, but the device is {cfg.MODEL.DEVICE}: detectron2 supports mixed precision on CUDA "
            "only; leave it off"
        )
    return Scaler("fp16", "cuda")


def _writers(out: Path, rank: int) -> list[Any]:
    """Return the hooks that write the metrics, for the first process only."""
    if rank:
        return []
    return [hooks.PeriodicWriter([JSONWriter(str(out / "metrics.json")), TensorboardXWriter(str(out))], period=20)]


def _write_weights(path: Path, model: nn.Module, classes: Sequence[str], origins: Sequence[str]) -> None:
    """Write the weights that the training reports.

    Raises:
        InputError: they are not finite. detectron2 checks the loss before a step, so it misses what the last step did.
    """
    state = {key: value.cpu() for key, value in model.state_dict().items()}  # read on machines without a GPU too
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError(
            "the weights are not finite after the last step: lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS"
        )
    save_torch(path, {"model": state, "classes": list(classes), "derived_from": list(origins)})


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Silence detectron2's log of a traceback, and turn a loss that is not finite into an `InputError`."""
    # detectron2 logs a traceback of every exception, also of Ctrl-C and of a mistake in the config.
    log = logging.getLogger("detectron2.engine.train_loop")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except FloatingPointError as error:  # what detectron2 raises for a loss that is infinite or NaN
        words = " ".join(str(error).split())
        raise InputError(f"{words}: lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS") from None
    finally:
        log.setLevel(level)
