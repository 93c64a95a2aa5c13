"""Export a recipe as the arguments of another trainer, with a list of what those arguments cannot express.

The trainers are timm 1.0's `train.py`, torchvision's `references/classification/train.py` and detectron2's `train_net.py`. The
exported learning rate of every step is that of `fbnetv3.training.optim.learning_rate`, unless the list says otherwise.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, available
from fbnetv3.training.optim import learning_rate
from fbnetv3.training.recipe import Recipe

# Number of training images of a data set, by the folder of its recipes. The steps per epoch depend on it.
IMAGES = {"imagenet": 1_281_167, "cifar10": 50_000}


@dataclass(frozen=True)
class ExportedRecipe:
    """The arguments of a trainer that correspond to a recipe.

    Attributes:
        arguments: values by name. For timm and torchvision the option of a name is `--name` with dashes for underscores.
            For detectron2 the names are config keys.
        not_expressed: for every field of the recipe that is left out or only approximated, a line that says why.
    """

    arguments: dict[str, Any]
    not_expressed: tuple[str, ...]

    @property
    def command_line(self) -> str:
        """The arguments as text for a shell."""
        words: list[str] = []
        for key, value in self.arguments.items():
            if "." in key:  # a config key of detectron2, which has no dashes
                words += [key, str(value)]
                continue
            words.append(f"--{key.replace('_', '-')}")
            if isinstance(value, dict):  # timm's --opt-kwargs
                words += [f"{k}={v}" for k, v in value.items()]
            elif value is not True:  # a flag has no value
                words += [str(v) for v in (value if isinstance(value, tuple) else (value,))]
        return shlex.join(words)


def training_images(name: str) -> int:
    """Return the number of training images of the data set that a packaged recipe is for.

    Raises:
        InputError: the number does not follow from the recipe's name.
    """
    folder = str(Path(name).parent)
    if folder not in IMAGES:
        raise InputError(f"the number of training images does not follow from the name {name!r}; give --images")
    return IMAGES[folder]


def export_recipe(recipe: Recipe, to: str, images: int = IMAGES["imagenet"], processes: int = 1) -> ExportedRecipe:
    """Return a recipe as the arguments of a trainer, which `to` names: timm, torchvision or detectron2.

    Args:
        images: number of training images, from which the steps per epoch follow.
        processes: number of processes that share the batch.

    Raises:
        InputError: an unknown trainer, one that does not have the recipe's optimizer, or a batch that cannot be divided evenly
            among the processes.
    """
    if to not in TRAINERS:
        raise InputError(f"--to is {to!r}; {available(to, TRAINERS)}")
    return TRAINERS[to](recipe, images, processes)


def to_timm(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> ExportedRecipe:
    """Return a recipe as arguments of timm's `train.py`; see `export_recipe`.

    Every step has this package's learning rate, because timm's schedule then runs per update with the warm-up as a prefix.
    """
    warmup, words = _warmup_epochs(recipe)
    arguments: dict[str, Any] = {"batch_size": _batch(recipe, processes)} | _timm_optimizer(recipe)
    arguments |= {"sched": "cosine" if recipe.schedule == "cosine" else "step", "sched_on_updates": True}
    # With --warmup-prefix timm's epochs come after the warm-up; this package's include it.
    arguments |= {"lr": recipe.lr, "min_lr": 0.0, "epochs": recipe.epochs - warmup, "warmup_epochs": warmup}
    if warmup:
        # Without the prefix timm's schedule would decay during the warm-up too.
        arguments |= {"warmup_prefix": True, "warmup_lr": learning_rate(recipe, 0, _steps(recipe, images))}
    if recipe.schedule != "cosine":
        # An exponential decay is a step decay at every epoch. timm has no other form of it.
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
    if recipe.layer_decay < 1.0:
        arguments["layer_decay"] = recipe.layer_decay
    augmentation, augmentation_words = _timm_augmentation(recipe.augmentation)
    why = {
        "distillation": "train.py's teacher options differ between versions; timm.task.LogitDistillationTask is the loss, "
        f"with distill_loss_weight {recipe.distillation:g}, task_loss_weight {1 - recipe.distillation:g} and "
        f"temperature {recipe.distillation_temperature:g}",
        "class_weights": "train.py weights all classes alike",
        "frozen_stages": "train.py freezes nothing",
    }
    return ExportedRecipe(arguments | augmentation, (*words, *augmentation_words, *_left_out(recipe, why)))


def to_torchvision(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> ExportedRecipe:
    """Return a recipe as arguments of torchvision's `references/classification/train.py`; see `export_recipe`.

    torchvision's schedulers step once per epoch, this package's warm-up and cosine once per step.
    """
    warmup, words = _warmup_epochs(recipe)
    arguments, optimizer_words = _torchvision_optimizer(recipe)
    arguments = {"batch_size": _batch(recipe, processes), "epochs": recipe.epochs} | arguments
    words += optimizer_words
    arguments |= _torchvision_schedule(recipe)
    if recipe.schedule == "cosine":
        words.append("schedule: the cosine is stepped per epoch, not per step")
    if warmup:
        factor = learning_rate(recipe, 0, _steps(recipe, images)) / recipe.lr
        arguments |= {"lr_warmup_epochs": warmup, "lr_warmup_method": "linear"}
        arguments["lr_warmup_decay"] = min(max(factor, 1e-6), 1.0)  # torch's LinearLR refuses a factor outside (0, 1]
        words.append("warmup_epochs: the rate rises once per epoch, not per step")
    arguments |= {"label_smoothing": recipe.label_smoothing, "mixup_alpha": recipe.mixup}
    if recipe.ema:
        # train.py uses the decay 1 - (1 - argument) * batch / epochs. This is the argument that gives the recipe's decay.
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
        words.append(
            f"augmentation: train.py always crops and mirrors at random, and has no option for {recipe.augmentation}"
        )
    why = {
        "dropout": "train.py builds the network with its own rates",
        "stochastic_depth": "train.py builds the network with its own rates",
        "distillation": "train.py has no teacher",
        "class_weights": "train.py weights all classes alike",
        "frozen_stages": "train.py freezes nothing",
    }
    if recipe.layer_decay < 1.0:
        words.append("layer_decay: train.py has one learning rate for all layers")
    return ExportedRecipe(arguments, (*words, *_left_out(recipe, why)))


def to_detectron2(recipe: Recipe, images: int = IMAGES["imagenet"], processes: int = 1) -> ExportedRecipe:
    """Return a recipe as the keys of detectron2's SOLVER config, which `train_net.py` takes after its options.

    Every step has this package's learning rate. `processes` has no effect, because detectron2 counts the batch over all
    processes.

    Raises:
        InputError: the recipe's optimizer is not SGD, the only one that detectron2 has. No rate of SGD corresponds to its rate.
    """
    if recipe.optimizer != "sgd":
        raise InputError(
            f"the recipe's optimizer is {recipe.optimizer}, and detectron2's solver has SGD alone, to which the recipe's "
            "learning rates mean nothing; give a recipe with sgd, or export to timm or torchvision"
        )
    steps = _steps(recipe, images)
    warmup = math.ceil(recipe.warmup_epochs * steps)
    total = recipe.epochs * steps
    # detectron2 sets the decay of norms and biases apart, this package only switches it off.
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
        "WARMUP_FACTOR": learning_rate(recipe, 0, steps) / recipe.lr,  # detectron2 interpolates from this factor to 1
    }
    if recipe.schedule == "cosine":
        # RESCALE_INTERVAL lets the cosine start after the warm-up, as this package's does.
        solver |= {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.0, "RESCALE_INTERVAL": True}
    else:
        interval = steps * (recipe.step_epochs if recipe.schedule == "step" else 1)
        # A decay by 1 would list every epoch for nothing.
        decays = range(warmup + interval, total, interval) if recipe.lr_decay < 1.0 else ()
        solver |= {"LR_SCHEDULER_NAME": "WarmupMultiStepLR", "GAMMA": recipe.lr_decay, "STEPS": tuple(decays)}
    words = []
    if warmup != recipe.warmup_epochs * steps:
        words.append(f"warmup_epochs: {recipe.warmup_epochs:g} epochs are not whole steps; rounded up to {warmup}")
    if recipe.augmentation != "none":
        words.append(
            f"augmentation: {recipe.augmentation} is no part of the solver; detectron2's augmentations are in INPUT"
        )
    why = dict.fromkeys(_LOSS_AND_NETWORK, "no part of the solver") | {
        "sync_bn": "set the network's norms, such as MODEL.RESNETS.NORM SyncBN",
        "clip_norm": "CLIP_GRADIENTS clips every tensor separately, not the whole gradient",
        "ema": "detectron2 has no average of weights",
        "class_weights": "no part of the solver",
        "frozen_stages": "MODEL.BACKBONE.FREEZE_AT freezes stages",
    }
    if recipe.layer_decay < 1.0:
        words.append("layer_decay: detectron2 has one learning rate for all layers")
    return ExportedRecipe({f"SOLVER.{key}": value for key, value in solver.items()}, (*words, *_left_out(recipe, why)))


_LOSS_AND_NETWORK = ("mixup", "dropout", "stochastic_depth", "label_smoothing", "distillation")
TRAINERS: dict[str, Callable[[Recipe, int, int], ExportedRecipe]] = {
    "timm": to_timm,
    "torchvision": to_torchvision,
    "detectron2": to_detectron2,
}


def _steps(recipe: Recipe, images: int) -> int:
    """Return the number of steps per epoch; the last incomplete batch is dropped, but there is at least one step."""
    return max(1, images // recipe.batch_size)


def _batch(recipe: Recipe, processes: int) -> int:
    """Return the number of images that one process handles in a step."""
    if recipe.batch_size % processes:
        raise InputError(
            f"batch_size is {recipe.batch_size}, which {processes} processes cannot share evenly; give a number of processes "
            "that divides it"
        )
    return recipe.batch_size // processes


def _warmup_epochs(recipe: Recipe) -> tuple[int, list[str]]:
    """Return the warm-up in whole epochs, fewer than all epochs, and a line if that differs from the recipe."""
    rounded = min(math.ceil(recipe.warmup_epochs), recipe.epochs - 1)
    if rounded == recipe.warmup_epochs:
        return rounded, []
    return rounded, [f"warmup_epochs: train.py takes whole epochs only; {recipe.warmup_epochs:g} became {rounded}"]


def _left_out(recipe: Recipe, why: dict[str, str]) -> list[str]:
    """Return a line with the reason for every field in `why` that the recipe switches on."""
    return [f"{name}: {reason}" for name, reason in sorted(why.items()) if getattr(recipe, name) not in (0, "none")]


def _timm_optimizer(recipe: Recipe) -> dict[str, Any]:
    """Return timm's arguments for the optimizer and its parameter groups."""
    # In timm "sgd" means Nesterov's momentum, and "momentum" the plain one.
    names = {"rmsprop": "rmsprop", "rmsprop_tf": "rmsproptf", "sgd": "sgd" if recipe.nesterov else "momentum"}
    arguments: dict[str, Any] = {"opt": names[recipe.optimizer], "momentum": recipe.momentum}
    arguments["weight_decay"] = recipe.weight_decay
    more: dict[str, Any] = {"filter_bias_and_bn": not recipe.decay_norm_bias}
    if recipe.optimizer != "sgd":
        arguments["opt_eps"] = recipe.eps
        more["alpha"] = recipe.alpha
    return arguments | {"opt_kwargs": more}


def _timm_augmentation(kind: str) -> tuple[dict[str, Any], list[str]]:
    """Return timm's arguments for an augmentation, and what they do not express."""
    # timm's defaults would add colour jitter, and choose the interpolation at random.
    plain = {"color_jitter": 0.0, "train_interpolation": "bilinear"}
    if kind == "none":
        return {"no_aug": True}, []
    if kind == "resized_crop_flip":
        return plain, []
    if kind == "autoaugment":
        words = "augmentation: timm has its own implementation of ImageNet's policy, and none of CIFAR's"
        return plain | {"aa": "original"}, [words]
    # A random crop of scale 1 and ratio 1 is the whole image.
    uncropped = plain | {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    words = "augmentation: timm has no shift by some pixels as crop_flip has it; images are mirrored only"
    return uncropped, [] if kind == "flip" else [words]


def _torchvision_optimizer(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Return torchvision's arguments for the optimizer, and what they do not express."""
    names = {"rmsprop": "rmsprop", "rmsprop_tf": "rmsprop", "sgd": "sgd_nesterov" if recipe.nesterov else "sgd"}
    arguments: dict[str, Any] = {"opt": names[recipe.optimizer], "lr": recipe.lr, "momentum": recipe.momentum}
    arguments["weight_decay"] = recipe.weight_decay
    if not recipe.decay_norm_bias:
        arguments |= {"norm_weight_decay": 0.0, "bias_weight_decay": 0.0}
    words = []
    if recipe.optimizer == "rmsprop_tf":
        words.append(
            "optimizer: torch's RMSprop instead of TensorFlow's, with another epsilon and another initial mean square"
        )
    if recipe.optimizer != "sgd" and (recipe.alpha, recipe.eps) != (0.9, 0.0316):
        words.append(f"alpha, eps: train.py has 0.9 and 0.0316 built in, not {recipe.alpha:g} and {recipe.eps:g}")
    return arguments, words


def _torchvision_schedule(recipe: Recipe) -> dict[str, Any]:
    """Return torchvision's arguments for the schedule after warm-up."""
    if recipe.schedule == "cosine":
        return {"lr_scheduler": "cosineannealinglr", "lr_min": 0.0}
    if recipe.schedule == "step":
        return {"lr_scheduler": "steplr", "lr_step_size": recipe.step_epochs, "lr_gamma": recipe.lr_decay}
    return {"lr_scheduler": "exponentiallr", "lr_gamma": recipe.lr_decay}
