"""The training loop, on one process or several, seeded and resumable.

    trained = fit(build_model("fbnetv3_a", 10, 1), load_recipe("fashion_mnist/micro"), fashion_mnist())

On a CPU, two runs with the same seed, versions and number of threads are equal to the last bit. Every epoch draws its
randomness from (seed, epoch) alone, and a checkpoint within an epoch holds the state of the generators. A training that is
killed and resumed therefore ends with the same numbers as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from fbnetv3.device import generator_states
from fbnetv3.errors import InputError
from fbnetv3.files import load_torch
from fbnetv3.model import FBNetV3
from fbnetv3.networks.weight_file import UNKNOWN
from fbnetv3.progress import Report
from fbnetv3.training.callbacks import Callback, Listeners
from fbnetv3.training.checkpoint import BEST, EpochMetrics
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.engine import DEFAULT_ENGINE, Engine, machine_settings
from fbnetv3.training.journal import open_journal
from fbnetv3.training.optim import learning_rate
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.step_losses import StepLosses
from fbnetv3.training.trainer import Trainer

Stop = Callable[[Sequence[float]], bool]
OnEpoch = Callable[[EpochMetrics, nn.Module], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training: `model` has the weights that the recipe reports (averaged or raw) and is in eval mode."""

    model: nn.Module
    metrics: tuple[EpochMetrics, ...]
    epoch: int  # that the weights are of: the last one, or with `patience` the best one

    @property
    def acc1(self) -> tuple[float, ...]:
        """Accuracy in percent after every epoch, of the weights that the recipe reports."""
        return tuple(m.acc1 for m in self.metrics)


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    *,
    seed: int = 0,
    epochs: int | None = None,
    stop: Stop | None = None,
    patience: int | None = None,
    split: str = "val",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Report | None = None,
    callbacks: Sequence[Callback] = (),
    on_epoch: OnEpoch | None = None,
    engine: Engine = DEFAULT_ENGINE,
    teacher: nn.Module | None = None,
) -> Trained:
    """Train `model` in place on the training images of `data`, and evaluate it on `split` after every epoch.

    In several processes (see `distributed.process_group`), each process trains on its part of every batch.

    Args:
        model: use `engine.seeded` to build it, because its initial weights are part of what a seed must fix.
        data: what `load_data` returns, or for torch's DataLoaders `wrap_loaders`.
        seed: of shuffling, augmentation, mixup, dropout and stochastic depth.
        epochs: stop after so many of the recipe's epochs (the early stopping of section 3.3). The learning rates are those
            of the full recipe.
        stop: tells from the accuracies so far, in percent after every epoch, whether the training ends here.
        patience: end the training when the accuracy has not risen for so many epochs, and return the weights of the best
            epoch, the first of equal ones. Needs `out`, where they are kept.
        out: folder for `checkpoint.pt`, `best.pt`, `metrics.csv` and `metrics.jsonl`. With a folder, SIGTERM, SIGUSR1 and
            Ctrl-C end the training at its next step, with a checkpoint.
        resume: continue from the checkpoint in `out`, if there is one.
        progress: called after every step with the steps done, the steps in all, and in words the epoch, the loss and more.
        callbacks: follow the training in its main process; see `Callback`.
        on_epoch: called after every epoch of this call, in all processes, with its metrics and the network that the recipe
            reports, which it must not change. It may measure the network on other images.
        teacher: network whose logits are distilled if the recipe says so. It is put into eval mode.

    Raises:
        InputError: `out` holds a training and `resume` is off, or its checkpoint is that of another training; the recipe
            distils and there is no teacher; the processes cannot divide the batch evenly; the network cannot take these images;
            or an image cannot be read. An epoch that could not be measured is saved.
        DivergedError: the loss or a weight became infinite or NaN.
    """
    if isinstance(data, DataLoader):
        raise InputError(
            "data is a DataLoader; give wrap_loaders(train, val), because `fit` also needs images to measure on"
        )
    epochs = recipe.epochs if epochs is None else epochs
    if not 1 <= epochs <= recipe.epochs:
        raise InputError(f"epochs is {epochs}; allowed: 1 to the recipe's {recipe.epochs}")
    if patience is not None and (patience < 1 or out is None):
        needs = "a folder for the best weights: out" if out is None else "at least one epoch"
        raise InputError(f"patience is {patience}, which needs {needs}")
    teacher = _check_teacher(model, recipe, teacher)
    with machine_settings(engine):
        # Mistakes in the settings show here, before the folder is touched.
        trainer = Trainer.start(model, recipe, data, seed, engine, teacher)
        heard = callbacks if trainer.process.rank == 0 else ()
        listeners = Listeners(progress, heard, trainer.steps, epochs, trainer.batch)
        trained = _train(trainer, epochs, _with_patience(stop, patience), split, out, resume, listeners, on_epoch)
        return trained if patience is None or out is None else _best(trained, Path(out))


def _train(
    trainer: Trainer,
    epochs: int,
    stop: Stop | None,
    split: str,
    out: str | Path | None,
    resume: bool,
    listeners: Listeners,
    on_epoch: OnEpoch | None,
) -> Trained:
    """Train what is prepared. The other arguments are those of `fit`."""

    def after_step(epoch: int, step: int, losses: StepLosses) -> None:
        rate = learning_rate(trainer.recipe, epoch * trainer.steps + step - 1, trainer.steps)
        listeners.step(epoch, step, rate, losses)
        # After the last step the whole epoch is saved, with its metrics.
        if step < trainer.steps and journal.is_due(step):
            # What is saved must be sound: a checkpoint of a diverged training could not be resumed.
            loss_sum = losses.fetch()
            trainer.check_weights(f"after step {step} of epoch {epoch + 1}")
            journal.save_position(step, loss_sum, generator_states(trainer.device))

    with open_journal(trainer.state, trainer.identity, trainer.process, trainer.engine, out, resume) as journal:
        trainer.check_position(journal.position)
        listeners.start(journal.position.step if journal.position else 0, tuple(journal.metrics))
        for epoch in range(len(journal.metrics), epochs):  # a resumed training has some epochs already
            # Here and not at the end, so that a training that was stopped is not continued when it is resumed.
            if stop is not None and epoch and stop(tuple(metrics.acc1 for metrics in journal.metrics)):
                break
            loss_sum = trainer.train_epoch(epoch, journal.take_position(), after_step)
            try:
                metrics = trainer.measure_epoch(epoch, loss_sum, split)
            except InputError as error:
                if journal.out is None:
                    raise
                # The epoch is trained, and only its accuracies are missing: it must not be lost with them.
                journal.save_position(trainer.steps, loss_sum, generator_states(trainer.device))
                raise InputError(
                    f"{error}. Epoch {epoch + 1} is trained and saved: remove the cause and resume the training, which "
                    "measures it again"
                ) from error
            listeners.epoch(metrics)
            if on_epoch is not None:
                on_epoch(metrics, trainer.state.reported)
            # Saved last: what was not told before a crash is trained and told again.
            journal.add_epoch(metrics, last=epoch + 1 == epochs)
    return Trained(trainer.state.reported.eval(), tuple(journal.metrics), len(journal.metrics))


def _with_patience(stop: Stop | None, patience: int | None) -> Stop | None:
    """Return the rule that also stops when the accuracy has not risen for `patience` epochs."""
    if patience is None:
        return stop

    def over(acc1: Sequence[float]) -> bool:
        return len(acc1) - 1 - acc1.index(max(acc1)) >= patience or (stop is not None and stop(acc1))

    return over


def _best(trained: Trained, out: Path) -> Trained:
    """Return the training with the weights of its best epoch."""
    best = load_torch(out / BEST, "best weights", ("epoch", "state_dict"))
    trained.model.load_state_dict(best["state_dict"])
    return replace(trained, epoch=best["epoch"])


def _check_teacher(model: nn.Module, recipe: Recipe, teacher: nn.Module | None) -> nn.Module | None:
    """Return the teacher that the recipe needs, or None. Note in `model` which weights the teacher came from."""
    if not recipe.distillation:
        return None  # an unused teacher would cost a forward pass in every step
    if teacher is None:
        raise InputError(
            f"the recipe distils with weight {recipe.distillation}: give a teacher, or set distillation to 0"
        )
    if isinstance(model, FBNetV3):
        # What is learnt from a teacher is bound by the licences of the teacher's weights too.
        origins = getattr(teacher, "derived_from", (UNKNOWN,))
        model.derived_from = tuple(dict.fromkeys((*model.derived_from, *origins)))
    return teacher
