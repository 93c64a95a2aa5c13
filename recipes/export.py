"""A recipe as the arguments of another trainer, and what those cannot express.

The option names are those of timm 1.0's `train.py`, of torchvision's `references/classification/train.py` and of
detectron2's config. The rate of every step is `fbnetv3.training.optim.learning_rate`'s where nothing else is said.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError
from fbnetv3.training.optim import learning_rate
from fbnetv3.training.recipe import Recipe

IMAGES = {"imagenet": 1_281_167, "cifar10": 50_000}  # training images of the whole data set, by folder of recipes


@dataclass(frozen=True)
class Portable:
    """Arguments by name (timm, torchvision: `--name`, underscores for dashes; detectron2: config keys).

    `not_expressed` has a line for every field of the recipe that is left out or only approximated, and why.
    """

    arguments: dict[str, Any]
    not_expressed: tuple[str, ...]

    @property
    def command_line(self) -> str:
        """The arguments as a shell takes them."""
        words: list[str] = []
        for key, value in self.arguments.items():
            if "." in key:
                words += [key, str(value)]
                continue
            words.append(f"--{key.replace('_', '-')}")
            if isinstance(value, dict):
                words += [f"{k}={v}" for k, v in value.items()]
            elif value is not True:
                words += [str(v) for v in (value if isinstance(value, tuple) else (value,))]
        return shlex.join(words)


def training_images(name: str) -> int:
    """Training images of the data set in whose folder a packaged recipe lies.

    Raises:
        InputError: the name does not tell.
    """
    folder = str(Path(name).parent)
    if folder not in IMAGES:
        raise InputError(f"how many training images there are does not follow from {name!r}; give --images")
    return IMAGES[folder]


def export(recipe: Recipe, to: str, images: int = IMAGES["imagenet"], processes: int = 1) -> Portable:
    """`to_timm`, `to_torchvision` or `to_detectron2`, by name; errors as theirs.

    Raises:
        InputError: no such trainer.
    """
    if to not in TRAINERS:
        raise InputError(f"--to is {to!r}; available: {', '.join(TRAINERS)}")
    return TRAINERS[to](recipe, images, processes)


def to_timm(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> Portable:
    """Arguments of timm's `train.py`; the rates of every step are this package's (timm's updates, warm-up as prefix).

    Args:
        images: training images, for the steps per epoch.
        processes: that share the batch.

    Raises:
        InputError: the batch does not divide among the processes.
    """
    warmup, words = _whole_warmup(recipe)
    arguments: dict[str, Any] = {"batch_size": _batch(recipe, processes)} | _timm_optimizer(recipe)
    arguments |= {"sched": "cosine" if recipe.schedule == "cosine" else "step", "sched_on_updates": True}
    arguments |= {"lr": recipe.lr, "min_lr": 0.0, "epochs": recipe.epochs - warmup, "warmup_epochs": warmup}
    if warmup:
        arguments |= {"warmup_prefix": True, "warmup_lr": learning_rate(recipe, 0, _steps(recipe, images))}
    if recipe.schedule != "cosine":
        arguments |= {
            "decay_epochs": recipe.step_epochs if recipe.schedule == "step" else 1,
            "decay_rate": recipe.lr_decay,
        }
    arguments |= {"smoothing": recipe.label_smoothing, "mixup": recipe.mixup, "drop": recipe.dropout}
    if recipe.stochastic_depth:
        arguments["drop_path"] = recipe.stochastic_depth
    if recipe.ema:
        arguments |= {"model_ema": True, "model_ema_decay": recipe.ema_decay}
    if recipe.sync_bn:
        arguments["sync_bn"] = True
    if recipe.clip_norm:
        arguments |= {"clip_grad": recipe.clip_norm, "clip_mode": "norm"}
    more, aug_words = _timm_augmentation(recipe.augmentation)
    why = {
        "distillation": "train.py's teacher options differ between versions; timm.task.LogitDistillationTask is the loss, "
        f"with distill_loss_weight {recipe.distillation:g}, task_loss_weight {1 - recipe.distillation:g} and "
        f"temperature {recipe.distillation_temperature:g}"
    }
    return Portable(arguments | more, (*words, *aug_words, *_left_out(recipe, why)))


def to_torchvision(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> Portable:
    """Arguments of torchvision's `references/classification/train.py`, whose schedulers step once per epoch.

    Args and raises as `to_timm`.
    """
    warmup, words = _whole_warmup(recipe)
    arguments, optimizer_words = _torchvision_optimizer(recipe)
    arguments = {"batch_size": _batch(recipe, processes), "epochs": recipe.epochs} | arguments
    words += optimizer_words
    arguments |= _torchvision_schedule(recipe)
    if recipe.schedule == "cosine":
        words.append("schedule: the cosine is stepped per epoch, not per step")
    if warmup:
        factor = learning_rate(recipe, 0, _steps(recipe, images)) / recipe.lr
        arguments |= {"lr_warmup_epochs": warmup, "lr_warmup_method": "linear"}
        arguments["lr_warmup_decay"] = min(max(factor, 1e-6), 1.0)  # what LinearLR takes
        words.append("warmup_epochs: the rate rises once per epoch, not per step")
    arguments |= {"label_smoothing": recipe.label_smoothing, "mixup_alpha": recipe.mixup}
    if recipe.ema:
        # train.py makes 1 - (1 - argument) * batch / epochs of its argument.
        decay = 1.0 - (1.0 - recipe.ema_decay) * recipe.epochs / recipe.batch_size
        arguments |= {"model_ema": True, "model_ema_steps": 1, "model_ema_decay": decay}
        if warmup:
            words.append("ema: the average starts after warm-up")
    if recipe.sync_bn:
        arguments["sync_bn"] = True
    if recipe.clip_norm:
        arguments["clip_grad_norm"] = recipe.clip_norm
    if recipe.augmentation == "autoaugment":
        arguments["auto_augment"] = "imagenet"
    elif recipe.augmentation != "resized_crop_flip":
        words.append(f"augmentation: train.py always crops and mirrors at random; {recipe.augmentation} is no option")
    why = {
        "dropout": "train.py builds the network with its own rates",
        "stochastic_depth": "train.py builds the network with its own rates",
        "distillation": "train.py has no teacher",
    }
    return Portable(arguments, (*words, *_left_out(recipe, why)))


def to_detectron2(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> Portable:
    """detectron2's SOLVER config, as `train_net.py` takes it after its options; `processes` does not matter.

    Every step has this package's rate. detectron2 trains detectors, and its solver knows SGD alone.
    """
    steps = _steps(recipe, images)
    warmup = math.ceil(recipe.warmup_epochs * steps)
    total = recipe.epochs * steps
    norm_bias = recipe.weight_decay if recipe.decay_norm_bias else 0.0
    solver: dict[str, Any] = {
        "IMS_PER_BATCH": recipe.batch_size,
        "MAX_ITER": total,
        "BASE_LR": recipe.lr,
        "MOMENTUM": recipe.momentum,
        "NESTEROV": recipe.nesterov,
        "WEIGHT_DECAY": recipe.weight_decay,
        "WEIGHT_DECAY_NORM": norm_bias,
        "WEIGHT_DECAY_BIAS": norm_bias,
        "WARMUP_ITERS": warmup,
        "WARMUP_METHOD": "linear",
        "WARMUP_FACTOR": learning_rate(recipe, 0, steps) / recipe.lr,
    }
    if recipe.schedule == "cosine":
        solver |= {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.0, "RESCALE_INTERVAL": True}
    else:
        interval = steps * (recipe.step_epochs if recipe.schedule == "step" else 1)
        decays = range(warmup + interval, total, interval) if recipe.lr_decay < 1.0 else ()
        solver |= {"LR_SCHEDULER_NAME": "WarmupMultiStepLR", "GAMMA": recipe.lr_decay, "STEPS": tuple(decays)}
    words = []
    if recipe.optimizer != "sgd":
        words.append(f"optimizer: detectron2's solver is SGD, not {recipe.optimizer}; its rate is another one")
    if warmup != recipe.warmup_epochs * steps:
        words.append(f"warmup_epochs: {recipe.warmup_epochs:g} epochs are not whole steps; rounded up to {warmup}")
    if recipe.augmentation != "none":
        words.append(f"augmentation: {recipe.augmentation} is no part of the solver; INPUT has detectron2's own")
    why = dict.fromkeys(_LOSS_AND_NETWORK, "no part of the solver") | {
        "sync_bn": "set the network's norms, such as MODEL.RESNETS.NORM SyncBN",
        "clip_norm": "CLIP_GRADIENTS clips every tensor by itself, not the whole gradient",
        "ema": "detectron2 has no average of weights",
    }
    return Portable({f"SOLVER.{key}": value for key, value in solver.items()}, (*words, *_left_out(recipe, why)))


_LOSS_AND_NETWORK = ("mixup", "dropout", "stochastic_depth", "label_smoothing", "distillation")
TRAINERS: dict[str, Callable[[Recipe, int, int], Portable]] = {
    "timm": to_timm,
    "torchvision": to_torchvision,
    "detectron2": to_detectron2,
}


def _steps(recipe: Recipe, images: int) -> int:
    """Steps per epoch; an incomplete batch is dropped."""
    return max(1, images // recipe.batch_size)


def _batch(recipe: Recipe, processes: int) -> int:
    """Images per process and step."""
    if recipe.batch_size % processes:
        raise InputError(
            f"batch_size is {recipe.batch_size}, over {processes} processes; give a number of processes that divides it"
        )
    return recipe.batch_size // processes


def _whole_warmup(recipe: Recipe) -> tuple[int, list[str]]:
    """Warm-up in whole epochs, below the recipe's, and what that costs."""
    whole = min(math.ceil(recipe.warmup_epochs), recipe.epochs - 1)
    if whole == recipe.warmup_epochs:
        return whole, []
    return whole, [
        f"warmup_epochs: train.py takes whole epochs before the others; {recipe.warmup_epochs:g} became {whole}"
    ]


def _left_out(recipe: Recipe, why: dict[str, str]) -> list[str]:
    """A line for every field of `why` that the recipe switches on."""
    return [f"{name}: {reason}" for name, reason in sorted(why.items()) if getattr(recipe, name)]


def _timm_optimizer(recipe: Recipe) -> dict[str, Any]:
    names = {"rmsprop": "rmsprop", "rmsprop_tf": "rmsproptf", "sgd": "sgd" if recipe.nesterov else "momentum"}
    arguments: dict[str, Any] = {"opt": names[recipe.optimizer], "momentum": recipe.momentum}
    arguments["weight_decay"] = recipe.weight_decay
    more: dict[str, Any] = {"filter_bias_and_bn": not recipe.decay_norm_bias}
    if recipe.optimizer != "sgd":
        arguments["opt_eps"] = recipe.eps
        more["alpha"] = recipe.alpha
    return arguments | {"opt_kwargs": more}


def _timm_augmentation(kind: str) -> tuple[dict[str, Any], list[str]]:
    plain = {"color_jitter": 0.0, "train_interpolation": "bilinear"}
    if kind == "none":
        return {"no_aug": True}, []
    if kind == "resized_crop_flip":
        return plain, []
    if kind == "autoaugment":
        words = "augmentation: timm has its own implementation of ImageNet's policy, and none of CIFAR's"
        return plain | {"aa": "original"}, [words]
    whole = plain | {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    return whole, [] if kind == "flip" else ["augmentation: crop_flip's shift by some pixels; mirrored only"]


def _torchvision_optimizer(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    names = {"rmsprop": "rmsprop", "rmsprop_tf": "rmsprop", "sgd": "sgd_nesterov" if recipe.nesterov else "sgd"}
    arguments: dict[str, Any] = {"opt": names[recipe.optimizer], "lr": recipe.lr, "momentum": recipe.momentum}
    arguments["weight_decay"] = recipe.weight_decay
    if not recipe.decay_norm_bias:
        arguments |= {"norm_weight_decay": 0.0, "bias_weight_decay": 0.0}
    words = []
    if recipe.optimizer == "rmsprop_tf":
        words.append(
            "optimizer: torch's RMSprop instead of TensorFlow's: other epsilon, other start of the mean square"
        )
    if recipe.optimizer != "sgd" and (recipe.alpha, recipe.eps) != (0.9, 0.0316):
        words.append(f"alpha, eps: train.py has 0.9 and 0.0316 built in, not {recipe.alpha:g} and {recipe.eps:g}")
    return arguments, words


def _torchvision_schedule(recipe: Recipe) -> dict[str, Any]:
    if recipe.schedule == "cosine":
        return {"lr_scheduler": "cosineannealinglr", "lr_min": 0.0}
    if recipe.schedule == "step":
        return {"lr_scheduler": "steplr", "lr_step_size": recipe.step_epochs, "lr_gamma": recipe.lr_decay}
    return {"lr_scheduler": "exponentiallr", "lr_gamma": recipe.lr_decay}
