"""Exported recipes: other trainers build the same optimizer and learning rates, and the rest is listed."""

import argparse
import shlex
import types

import numpy as np
import pytest
import torch
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler_factory import scheduler_kwargs
from timm.utils import ModelEmaV3, ParseKwargs, dispatch_clip_grad
from torch import nn
from torch.optim import lr_scheduler

from fbnetv3 import InputError
from fbnetv3.recipes import list_recipes, load_recipe
from fbnetv3.recipes.export import export_recipe, to_detectron2, to_timm, to_torchvision, training_images
from fbnetv3.training.losses import loss, mixup
from fbnetv3.training.optim import RecipeSchedule, learning_rate, make_average, make_optimizer
from fbnetv3.training.recipe import Recipe

STEPS = 11
BASE = Recipe("sgd", 0.3, 10, 32, momentum=0.8, weight_decay=0.01, lr_decay=0.9, augmentation="resized_crop_flip")
IMAGES = 32 * STEPS + 5  # the incomplete batch is dropped
RECIPES = [
    BASE,
    BASE.replace(nesterov=True, decay_norm_bias=False),
    BASE.replace(optimizer="rmsprop", warmup_epochs=2.0, alpha=0.8, eps=0.01),
    BASE.replace(optimizer="rmsprop_tf", warmup_epochs=3.0, warmup_lr=0.01, decay_norm_bias=False),
    BASE.replace(schedule="cosine", warmup_epochs=1.0),
    BASE.replace(schedule="step", step_epochs=3, warmup_lr=0.0, warmup_epochs=2.0),
]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def settings(optimizer, model):
    """Return what an optimizer does to every parameter, by name, except for the learning rate."""
    names = {id(p): name for name, p in model.named_parameters()}
    keys = ("momentum", "weight_decay", "nesterov", "alpha", "eps")
    return type(optimizer).__name__, {
        names[id(p)]: {key: group[key] for key in keys if key in group}
        for group in optimizer.param_groups
        for p in group["params"]
    }


def fields(exported):
    """Return the fields of the recipe that the lines of `not_expressed` name."""
    return {name for line in exported.not_expressed for name in line.split(":")[0].split(", ")}


# ---------------------------------------------------------------- timm


def timm_parser():
    """Return a parser with the options of timm's train.py that a recipe uses, with their types."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    numbers = (
        "momentum",
        "weight-decay",
        "opt-eps",
        "lr",
        "min-lr",
        "warmup-lr",
        "decay-epochs",
        "decay-rate",
        "smoothing",
        "mixup",
        "drop",
        "drop-path",
        "model-ema-decay",
        "clip-grad",
        "layer-decay",
        "color-jitter",
    )
    for name in numbers:
        parser.add_argument(f"--{name}", type=float)
    for name in ("batch-size", "epochs", "warmup-epochs"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("opt", "sched", "clip-mode", "train-interpolation", "aa"):
        parser.add_argument(f"--{name}")
    for name in ("sched-on-updates", "warmup-prefix", "model-ema", "sync-bn", "no-aug"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("scale", "ratio"):
        parser.add_argument(f"--{name}", type=float, nargs="+")
    parser.add_argument("--opt-kwargs", nargs="*", default={}, action=ParseKwargs)
    return parser


def parse_timm(exported):
    """Return the arguments as train.py sees them, after a shell has split them."""
    return timm_parser().parse_args(shlex.split(exported.command_line))


@pytest.mark.parametrize("recipe", RECIPES)
def test_timm_builds_the_same_optimizer_and_the_same_rate_of_every_step(recipe):
    args = parse_timm(to_timm(recipe, IMAGES))
    model, other = network(), network()
    theirs = create_optimizer_v2(other, **optimizer_kwargs(args), **args.opt_kwargs)
    assert settings(make_optimizer(model, recipe), model) == settings(theirs, other)
    scheduler, epochs = create_scheduler_v2(theirs, **scheduler_kwargs(args), updates_per_epoch=STEPS)
    assert epochs == recipe.epochs
    for step in range(recipe.epochs * STEPS):
        rate = theirs.param_groups[0]["lr"]
        assert learning_rate(recipe, step, STEPS) == pytest.approx(rate, rel=1e-12, abs=0.0), step
        scheduler.step_update(step + 1)


@pytest.mark.parametrize("name", list_recipes())
def test_timms_parser_takes_every_recipe_of_the_package(name):
    recipe = load_recipe(name)
    args = parse_timm(to_timm(recipe, 100_000))
    assert (args.lr, args.batch_size, args.mixup) == (recipe.lr, recipe.batch_size, recipe.mixup)
    assert (args.smoothing, args.drop, args.drop_path or 0.0) == (
        recipe.label_smoothing,
        recipe.dropout,
        recipe.stochastic_depth,
    )
    assert args.model_ema == recipe.ema
    assert args.sync_bn == recipe.sync_bn


@pytest.mark.parametrize("recipe", [RECIPES[1], RECIPES[3], RECIPES[4]], ids=lambda recipe: recipe.optimizer)
def test_timms_parts_train_to_the_same_weights(recipe):
    """As train.py puts them together: the loss with smoothed labels, clipping, the optimizer, the average, and the schedule."""
    recipe = recipe.replace(epochs=2, warmup_epochs=1.0, clip_norm=0.3, label_smoothing=0.1, ema=True, ema_decay=0.7)
    args, (model, other) = parse_timm(to_timm(recipe, 32 * 3)), (network(), network())
    theirs = create_optimizer_v2(other, **optimizer_kwargs(args), **args.opt_kwargs)
    scheduler, _ = create_scheduler_v2(theirs, **scheduler_kwargs(args), updates_per_epoch=3)
    their_average = ModelEmaV3(other, decay=args.model_ema_decay)
    their_loss = LabelSmoothingCrossEntropy(args.smoothing)
    ours = make_optimizer(model, recipe)
    schedule, average = RecipeSchedule(ours, recipe, 3), make_average(model, recipe)
    for step in range(6):
        x, labels = torch.randn(8, 3, 4, 4), torch.randint(0, 3, (8,))
        theirs.zero_grad()
        their_loss(other(x), labels).backward()
        dispatch_clip_grad(other.parameters(), args.clip_grad, mode=args.clip_mode)
        theirs.step()
        their_average.update(other, step=step + 1)
        scheduler.step_update(step + 1)
        x, target = mixup(x, labels, recipe, np.random.default_rng(0))
        ours.zero_grad()
        loss(model(x), target, recipe).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        ours.step()
        schedule.step()
        average.update()
    for mine, their in ((model, other), (average.module, their_average.module)):
        for name, parameter in mine.named_parameters():
            torch.testing.assert_close(parameter, their.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_timm_gets_what_is_switched_on_and_no_more():
    assert not {"model_ema", "sync_bn", "clip_grad", "drop_path"} & set(to_timm(BASE).arguments)
    full = BASE.replace(ema=True, ema_decay=0.99, sync_bn=True, clip_norm=2.0, stochastic_depth=0.1, layer_decay=0.8)
    arguments = to_timm(full).arguments
    assert arguments["model_ema_decay"] == 0.99
    assert (arguments["clip_grad"], arguments["clip_mode"], arguments["drop_path"]) == (2.0, "norm", 0.1)
    assert (arguments["layer_decay"], parse_timm(to_timm(full)).layer_decay) == (0.8, 0.8)
    assert to_timm(full).not_expressed == ()
    more = full.replace(frozen_stages=1, class_weights="balanced")
    assert fields(to_timm(more)) == {"frozen_stages", "class_weights"}


def test_the_batch_is_shared_by_the_processes():
    assert to_timm(BASE, processes=8).arguments["batch_size"] == 4
    assert to_torchvision(BASE, processes=8).arguments["batch_size"] == 4
    assert to_detectron2(BASE, processes=8).arguments["SOLVER.IMS_PER_BATCH"] == 32
    with pytest.raises(InputError, match="batch_size is 32, which 5 processes cannot share evenly"):
        to_timm(BASE, processes=5)


def test_what_timm_cannot_express_is_listed():
    assert fields(to_timm(BASE.replace(distillation=0.8, warmup_epochs=0.5))) == {"distillation", "warmup_epochs"}
    assert to_timm(BASE.replace(warmup_epochs=0.5)).arguments["warmup_epochs"] == 1
    assert fields(to_timm(BASE.replace(augmentation="crop_flip"))) == {"augmentation"}
    assert to_timm(BASE.replace(augmentation="flip")).not_expressed == ()


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("none", []),
        ("flip", ["RandomHorizontalFlip"]),
        ("resized_crop_flip", ["RandomHorizontalFlip"]),
        ("autoaugment", ["RandomHorizontalFlip", "AutoAugment"]),
    ],
)
def test_timm_makes_the_augmentation_of_its_arguments(kind, steps):
    args = parse_timm(to_timm(BASE.replace(augmentation=kind)))
    made = create_transform(
        224,
        is_training=True,
        no_aug=args.no_aug,
        scale=args.scale,
        ratio=args.ratio,
        auto_augment=args.aa,
        color_jitter=args.color_jitter,
        interpolation=args.train_interpolation or "bilinear",
    )
    # ColorJitter without ranges changes nothing.
    changes = [step for step in made.transforms if getattr(step, "brightness", "") is not None]
    names = [type(step).__name__ for step in changes]
    assert [name for name in names if "Flip" in name or "Augment" in name or "Jitter" in name] == steps
    assert ("RandomResizedCropAndInterpolation" in names) == (kind != "none")
    if kind == "flip":
        assert made.transforms[0].scale == (1.0, 1.0)


# ---------------------------------------------------------------- torchvision


def torchvision_parser():
    """Return a parser with the options of references/classification/train.py that a recipe uses, with their types."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in (
        "lr",
        "momentum",
        "weight-decay",
        "norm-weight-decay",
        "bias-weight-decay",
        "label-smoothing",
        "mixup-alpha",
        "lr-warmup-decay",
        "lr-gamma",
        "lr-min",
        "model-ema-decay",
        "clip-grad-norm",
    ):
        parser.add_argument(f"--{name}", type=float)
    for name in ("batch-size", "epochs", "lr-warmup-epochs", "lr-step-size", "model-ema-steps"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("opt", "lr-scheduler", "lr-warmup-method", "auto-augment"):
        parser.add_argument(f"--{name}")
    for name in ("sync-bn", "model-ema"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


@pytest.mark.parametrize("name", list_recipes())
def test_torchvisions_parser_takes_every_recipe_of_the_package(name):
    exported = to_torchvision(load_recipe(name), 100_000)
    args = torchvision_parser().parse_args(shlex.split(exported.command_line))
    assert {key: vars(args)[key] for key in exported.arguments} == exported.arguments


def torchvision_rates(arguments):
    """Rates by epoch of the schedulers that references/classification/train.py builds from its arguments."""
    args = types.SimpleNamespace(**{"lr_warmup_epochs": 0} | arguments)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], args.lr)
    main = {
        "steplr": lambda: lr_scheduler.StepLR(optimizer, args.lr_step_size, args.lr_gamma),
        "cosineannealinglr": lambda: lr_scheduler.CosineAnnealingLR(
            optimizer, args.epochs - args.lr_warmup_epochs, args.lr_min
        ),
        "exponentiallr": lambda: lr_scheduler.ExponentialLR(optimizer, args.lr_gamma),
    }[args.lr_scheduler]()
    if args.lr_warmup_epochs:
        assert args.lr_warmup_method == "linear"
        linear = lr_scheduler.LinearLR(optimizer, args.lr_warmup_decay, total_iters=args.lr_warmup_epochs)
        main = lr_scheduler.SequentialLR(optimizer, [linear, main], [args.lr_warmup_epochs])
    for _ in range(args.epochs):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        main.step()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_torchvisions_schedulers_give_the_rate_at_the_start_of_every_epoch(recipe):
    exported = to_torchvision(recipe, IMAGES)
    for epoch, rate in enumerate(torchvision_rates(exported.arguments)):
        ours = learning_rate(recipe, epoch * STEPS, STEPS)
        if epoch == 0 and recipe.warmup_lr == 0.0:
            assert rate == pytest.approx(0.0, abs=1e-6)
        elif epoch == 0 or epoch >= recipe.warmup_epochs:
            assert rate == pytest.approx(ours, rel=1e-9), epoch
    assert ("warmup_epochs" in fields(exported)) == (recipe.warmup_epochs > 0)
    assert ("schedule" in fields(exported)) == (recipe.schedule == "cosine")


def test_the_published_arguments_of_torchvisions_baselines_come_out():
    arguments = to_torchvision(load_recipe("imagenet/torchvision_resnet50"), processes=8).arguments
    assert arguments == {
        "batch_size": 32,
        "epochs": 90,
        "opt": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "lr_scheduler": "steplr",
        "lr_step_size": 30,
        "lr_gamma": 0.1,
        "label_smoothing": 0.0,
        "mixup_alpha": 0.0,
    }
    assert to_torchvision(load_recipe("imagenet/torchvision_resnet50")).not_expressed == ()
    command = to_torchvision(load_recipe("imagenet/torchvision_resnext101_32x8d"), processes=64).command_line
    assert "--batch-size 16 --epochs 100 --opt sgd --lr 0.4" in command


def test_torchvisions_average_has_the_recipes_decay_after_its_adjustment():
    recipe = BASE.replace(ema=True, ema_decay=0.999)
    arguments = to_torchvision(recipe, processes=4).arguments
    adjust = 4 * arguments["batch_size"] * arguments["model_ema_steps"] / arguments["epochs"]  # as train.py has it
    assert 1.0 - min(1.0, (1.0 - arguments["model_ema_decay"]) * adjust) == pytest.approx(0.999, abs=1e-12)


def test_options_of_torchvision():
    recipe = BASE.replace(
        nesterov=True, decay_norm_bias=False, sync_bn=True, clip_norm=1.0, mixup=0.2, augmentation="autoaugment"
    )
    arguments = to_torchvision(recipe).arguments
    assert arguments["opt"] == "sgd_nesterov"
    assert (arguments["norm_weight_decay"], arguments["bias_weight_decay"]) == (0.0, 0.0)
    assert arguments["sync_bn"] is True
    assert (arguments["clip_grad_norm"], arguments["mixup_alpha"]) == (1.0, 0.2)
    assert arguments["auto_augment"] == "imagenet"
    assert to_torchvision(recipe).not_expressed == ()


def test_what_torchvision_cannot_express_is_listed():
    recipe = BASE.replace(
        optimizer="rmsprop_tf",
        dropout=0.1,
        stochastic_depth=0.1,
        distillation=0.5,
        augmentation="none",
        warmup_epochs=1.0,
        ema=True,
        layer_decay=0.8,
        frozen_stages=1,
        class_weights="balanced",
    )
    assert fields(to_torchvision(recipe)) == {
        "optimizer",
        "alpha",
        "eps",
        "dropout",
        "stochastic_depth",
        "distillation",
        "augmentation",
        "warmup_epochs",
        "ema",
        "layer_decay",
        "frozen_stages",
        "class_weights",
    }
    assert to_torchvision(BASE.replace(optimizer="rmsprop", eps=0.0316)).not_expressed == ()


# ---------------------------------------------------------------- detectron2


def test_the_solver_config_by_hand():
    arguments = to_detectron2(BASE.replace(warmup_epochs=2.0, schedule="step", step_epochs=3), IMAGES).arguments
    assert arguments == {
        "SOLVER.IMS_PER_BATCH": 32,
        "SOLVER.MAX_ITER": 110,
        "SOLVER.BASE_LR": 0.3,
        "SOLVER.MOMENTUM": 0.8,
        "SOLVER.NESTEROV": False,
        "SOLVER.WEIGHT_DECAY": 0.01,
        "SOLVER.WEIGHT_DECAY_NORM": 0.01,
        "SOLVER.WEIGHT_DECAY_BIAS": 0.01,
        "SOLVER.WARMUP_ITERS": 22,
        "SOLVER.WARMUP_METHOD": "linear",
        "SOLVER.WARMUP_FACTOR": pytest.approx(1 / 23),
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "SOLVER.GAMMA": 0.9,
        "SOLVER.STEPS": (55, 88),
    }
    cosine = to_detectron2(BASE.replace(schedule="cosine"), IMAGES).arguments
    assert (cosine["SOLVER.LR_SCHEDULER_NAME"], cosine["SOLVER.RESCALE_INTERVAL"]) == ("WarmupCosineLR", True)
    assert "SOLVER.STEPS" not in cosine


def test_what_detectron2_cannot_express_is_listed():
    recipe = BASE.replace(
        mixup=0.1,
        dropout=0.1,
        stochastic_depth=0.1,
        ema=True,
        label_smoothing=0.1,
        distillation=0.1,
        sync_bn=True,
        clip_norm=1.0,
        warmup_epochs=0.1,
        layer_decay=0.8,
        frozen_stages=1,
        class_weights="balanced",
    )
    assert fields(to_detectron2(recipe, IMAGES)) == {
        "augmentation",
        "warmup_epochs",
        "mixup",
        "dropout",
        "stochastic_depth",
        "ema",
        "label_smoothing",
        "distillation",
        "sync_bn",
        "clip_norm",
        "layer_decay",
        "frozen_stages",
        "class_weights",
    }
    assert to_detectron2(BASE.replace(augmentation="none"), IMAGES).not_expressed == ()


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_tf"])
def test_an_optimizer_that_detectron2_does_not_have_is_refused(optimizer):
    words = f"the recipe's optimizer is {optimizer}, and detectron2's solver has SGD alone, .*; give a recipe with sgd"
    with pytest.raises(InputError, match=words):
        export_recipe(BASE.replace(optimizer=optimizer), "detectron2", IMAGES)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.optimizer == "sgd"])
def test_detectron2_builds_the_same_optimizer_and_the_same_rate_of_every_step(recipe):
    pytest.importorskip("detectron2")
    from detectron2.config import get_cfg
    from detectron2.solver.build import build_lr_scheduler, build_optimizer

    exported = to_detectron2(recipe, IMAGES)
    cfg = get_cfg()
    cfg.merge_from_list(shlex.split(exported.command_line))  # as train_net.py does
    model, other = network(), network()
    theirs = build_optimizer(cfg, other)
    assert settings(make_optimizer(model, recipe), model) == settings(theirs, other)
    scheduler = build_lr_scheduler(cfg, theirs)
    for step in range(recipe.epochs * STEPS):
        rate = theirs.param_groups[0]["lr"]
        assert learning_rate(recipe, step, STEPS) == pytest.approx(rate, rel=1e-9, abs=1e-12), step
        theirs.step()
        scheduler.step()


# ---------------------------------------------------------------- by name


def test_trainers_and_data_sets_by_name():
    assert export_recipe(BASE, "timm", IMAGES) == to_timm(BASE, IMAGES)
    with pytest.raises(InputError, match="--to is 'keras'; available: timm, torchvision, detectron2"):
        export_recipe(BASE, "keras")
    assert training_images("imagenet/fbnetv3_b_proxy") == 1_281_167
    with pytest.raises(InputError, match=r"does not follow from the name 'mine\.yaml'; give --images"):
        training_images("mine.yaml")
