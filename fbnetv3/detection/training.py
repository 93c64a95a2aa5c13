"""Training of a detector with detectron2's solver and hooks, and an EMA that detectron2 does not have.

    model, loaded = prepare(cfg)
    results = train(cfg, model, resume=False)

Every step draws its batch, its augmentation and the sampling of boxes from (SEED, step, process) alone, and a checkpoint
holds all else. So a training that is killed and resumed ends with the weights of an uninterrupted one: to the last bit on a
CPU with the same versions and threads. In the processes of `torchrun` (`fbnetv3.training.distributed.processes`) each trains
on its part of every batch.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import JSONWriter, TensorboardXWriter
from torch import nn

from fbnetv3.detection.checkpoint import Checkpointer
from fbnetv3.detection.data import (
    Steps,
    check_classes,
    check_same_classes,
    class_names,
    load_records,
    read_steps,
    with_boxes,
)
from fbnetv3.detection.detector_weights import Loaded, load_into
from fbnetv3.detection.evaluation import Metrics, evaluate, only_set
from fbnetv3.detection.modeling import build_detector
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, save_torch, write_atomically
from fbnetv3.training.distributed import average_buffers, current_share, total, wrap
from fbnetv3.training.loop import Progress, seeded
from fbnetv3.training.optim import MovingAverage
from fbnetv3.training.process_rank import Share
from fbnetv3.training.stop_signal import StopRequest, stop_request

logger = logging.getLogger(__name__)

WEIGHTS, CONFIG = "weights.pth", "config.yaml"


def prepare(cfg: CfgNode, *, strict: bool = False) -> tuple[nn.Module, Loaded | None]:
    """The model of a config, its fresh weights drawn from SEED, with `MODEL.WEIGHTS` if the config names any.

    Raises:
        InputError: as `build_detector` and `load_into` do.
    """
    model = seeded(lambda: build_detector(cfg), max(cfg.SEED, 0))
    if not cfg.MODEL.WEIGHTS:
        return model, None
    return model, load_into(model, cfg.MODEL.FBNETV3.ARCH, cfg.MODEL.WEIGHTS, strict=strict)


def train(cfg: CfgNode, model: nn.Module, *, resume: bool = False, progress: Progress | None = None) -> Metrics:
    """Train in place to `SOLVER.MAX_ITER` and evaluate; returns the last evaluation.

    `OUTPUT_DIR` gets checkpoints, `config.yaml`, `metrics.json`, TensorBoard's events and, at the end, `weights.pth`: what
    the config reports (the average if MODEL_EMA is enabled) with the names of the classes and of the registered weights that
    it derives from, whose licences bind it. SIGTERM and Ctrl-C end the training after its step, with a checkpoint.

    Raises:
        InputError: data or config that cannot be used; a folder that holds a training and `resume` is off, or one of another
            config; a loss that is not finite.
    """
    if not cfg.OUTPUT_DIR:
        raise InputError("no folder to write to: set OUTPUT_DIR, or give --out")
    out, share, device = make_folder(cfg.OUTPUT_DIR), current_share(), torch.device(cfg.MODEL.DEVICE)
    steps, classes = _steps(cfg, share)
    optimizer = build_optimizer(cfg, model)
    ema = MovingAverage(model, cfg.MODEL_EMA.DECAY) if cfg.MODEL_EMA.ENABLED else None
    scheduler = build_lr_scheduler(cfg, optimizer)
    scaler = _scaler(cfg)
    kept = {"optimizer": optimizer, "scheduler": scheduler, "ema": ema, "scaler": scaler}
    kept = {key: part for key, part in kept.items() if part is not None}
    checkpointer = Checkpointer(cfg, model, classes, kept)
    start = checkpointer.resume(resume)
    if share.rank == 0:
        write_atomically(out / CONFIG, cfg.dump())
    parts = wrap(model.train(), share, device), read_steps(steps, start, cfg.DATALOADER.NUM_WORKERS), optimizer
    trainer = SimpleTrainer(*parts) if scaler is None else AMPTrainer(*parts, grad_scaler=scaler)
    results = _Evaluations(cfg, model, ema, out, progress)
    with stop_request() as request:
        trainer.register_hooks(
            [
                _Seed(max(cfg.SEED, 0), share.rank),
                hooks.LRScheduler(optimizer, scheduler),
                _Follow(model, ema, progress),
                _Save(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, request),
                results,  # after the checkpoint, which an evaluation that fails does not lose
                *_writers(out, share.rank),
            ]
        )
        with _one_line(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trainer.train(start, cfg.SOLVER.MAX_ITER)
    if share.rank == 0:
        reported = model if ema is None else ema.module
        if not all(value.isfinite().all() for value in reported.state_dict().values()):
            raise InputError("the last step left weights that are not finite: lower SOLVER.BASE_LR, or warm up longer")
        about = {"classes": list(classes), "derived_from": list(getattr(model, "derived_from", ()))}
        save_torch(out / WEIGHTS, {"model": reported.state_dict(), **about})
    return results.run() if results.last is None else results.last  # None: resumed after its end


def _steps(cfg: CfgNode, share: Share) -> tuple[Steps, tuple[str, ...]]:
    """The batches of a config, and the names of its classes; its test data is checked too, before the first step."""
    train_name, test_name = only_set(cfg, "TRAIN"), only_set(cfg, "TEST")
    records = with_boxes(load_records(train_name), train_name)
    load_records(test_name)
    check_classes(cfg, train_name)
    check_same_classes(train_name, test_name)
    batch, seed = cfg.SOLVER.IMS_PER_BATCH, max(cfg.SEED, 0)
    return Steps(records, DatasetMapper(cfg, True), batch, seed, cfg.SOLVER.MAX_ITER, share), class_names(train_name)


class _Seed(HookBase):  # type: ignore[misc]
    """A step draws its boxes from (seed, step, process)."""

    def __init__(self, seed: int, rank: int) -> None:
        self.seed, self.rank = seed, rank

    def before_step(self) -> None:
        torch.manual_seed((self.seed * 1_000_003 + self.trainer.iter) * 10_007 + self.rank)


class _Follow(HookBase):  # type: ignore[misc]
    """After a step: one set of running statistics for all processes, the average, the progress."""

    def __init__(self, model: nn.Module, ema: MovingAverage | None, progress: Progress | None) -> None:
        self.model, self.ema, self.progress = model, ema, progress

    def after_step(self) -> None:
        average_buffers(self.model, current_share())
        if self.ema is not None:
            self.ema.update()
        if self.progress is not None:
            latest = self.trainer.storage.latest().get("total_loss", (math.nan,))[0]
            self.progress(self.trainer.iter + 1, self.trainer.max_iter, f"training, loss {latest:.3f}")


class _Evaluations(HookBase):  # type: ignore[misc]
    """The raw and the averaged weights on the test pictures, every TEST.EVAL_PERIOD steps and at the end."""

    def __init__(
        self, cfg: CfgNode, model: nn.Module, ema: MovingAverage | None, out: Path, progress: Progress | None
    ) -> None:
        self.cfg, self.out, self.progress = cfg, out, progress
        self.models = {"raw": model} | ({} if ema is None else {"ema": ema.module})
        self.last: Metrics | None = None

    def after_step(self) -> None:
        step, period = self.trainer.iter + 1, self.cfg.TEST.EVAL_PERIOD
        if step == self.trainer.max_iter or (period > 0 and step % period == 0):
            for key, value in self.run().items():
                if math.isfinite(value):
                    self.trainer.storage.put_scalar(key, value, smoothing_hint=False)

    def run(self) -> Metrics:
        """Evaluate both: keys of the raw weights begin with `raw/`, of the average with `ema/`."""
        found = {k: evaluate(self.cfg, m, self.out / k, self.progress) for k, m in self.models.items()}
        self.last = {f"{kind}/{key}": value for kind, row in found.items() for key, value in row.items()}
        return self.last


class _Save(HookBase):  # type: ignore[misc]
    """Checkpoints every so many steps and at the end; stops after the step in which that was asked for."""

    def __init__(self, checkpointer: Checkpointer, period: int, request: StopRequest) -> None:
        self.checkpointer, self.period, self.request = checkpointer, period, request

    def after_step(self) -> None:
        step, last = self.trainer.iter + 1, self.trainer.iter + 1 == self.trainer.max_iter
        asked = total([self.request.signal is not None], current_share(), self.checkpointer.device)[0] > 0
        if last or asked or (self.period > 0 and step % self.period == 0):
            try:
                self.checkpointer.write(step)
            except InputError as error:
                if last or asked:
                    raise
                logger.warning("step %d is not saved, the training goes on: %s", step, error)
        if asked and not last:
            self.request.raise_()


def _scaler(cfg: CfgNode) -> torch.amp.GradScaler | None:
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        raise InputError(f"SOLVER.AMP.ENABLED on {cfg.MODEL.DEVICE}: detectron2 has it on CUDA alone; leave it off")
    return torch.amp.GradScaler("cuda")


def _writers(out: Path, rank: int) -> list[HookBase]:
    if rank:
        return []
    return [hooks.PeriodicWriter([JSONWriter(str(out / "metrics.json")), TensorboardXWriter(str(out))], period=20)]


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """detectron2 logs a traceback of whatever ends a training; a mistake of the user's is one line here."""
    loud = logging.getLogger("detectron2.engine.train_loop")
    level = loud.level
    loud.setLevel(logging.CRITICAL)
    try:
        yield
    except FloatingPointError as error:
        raise InputError(f"{' '.join(str(error).split())}: lower SOLVER.BASE_LR, or warm up longer") from None
    finally:
        loud.setLevel(level)
