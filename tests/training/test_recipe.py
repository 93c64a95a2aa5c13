"""Recipes are read strictly, and older ones mean what they meant."""

import dataclasses
import math

import pytest

from fbnetv3 import InputError
from fbnetv3.training.recipe import Recipe

RECIPE = Recipe(optimizer="sgd", lr=0.1, epochs=4, batch_size=32, warmup_epochs=1.0, lr_decay=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'; .*optimizer, lr"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; Input should be 'rmsprop', 'rmsprop_tf' or 'sgd'"),
        ({"lr": "1e-5"}, "write 1.0e-5"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.inf}, "lr is inf"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"epochs": 10**6 + 1}, "epochs is 1000001; .* less than or equal to 1000000"),
        ({"batch_size": 99999999999999999999}, "batch_size is 99999999999999999999; .* less than or equal to 10000000"),
        ({"warmup_epochs": 1e7}, "warmup_epochs is 10000000.0"),
        ({"step_epochs": 10**10}, "step_epochs is 10000000000"),
        ({"ema": 1}, "ema is 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"momentum": "much"}, "momentum is 'much'"),
        ({"augmentation": "magic"}, "augmentation is 'magic'"),
        ({"schedule": "linear"}, "schedule is 'linear'; Input should be 'exponential', 'cosine' or 'step'"),
        ({"step_epochs": 0}, "step_epochs is 0"),
        ({"warmup_lr": -0.1}, "warmup_lr is -0.1"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"distillation": 1.0}, "distillation is 1.0"),
        ({"distillation_temperature": 0.0}, "distillation_temperature is 0.0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"class_weights": True}, "class_weights is True; Input should be 'none' or 'balanced'"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"layer_decay": 1.1}, "layer_decay is 1.1"),
        ({"frozen_stages": -1}, "frozen_stages is -1"),
        ({"sync_bn": "yes"}, "sync_bn is 'yes'"),
        ({"nesterov": True, "momentum": 0.0}, "recipe: nesterov is true and momentum 0.0; .* above 0"),
        ({"schedule": "cosine", "warmup_epochs": 4.0}, "warmup_epochs is 4.0; schedule cosine needs fewer than the 4"),
    ],
)
def test_recipe_is_strict(change, message):
    with pytest.raises(InputError, match=message):
        Recipe.from_dict(RECIPE.to_dict() | change)


def test_a_recipe_from_before_the_newer_fields_is_the_same_recipe():
    newer = (
        "nesterov",
        "alpha",
        "eps",
        "decay_norm_bias",
        "warmup_lr",
        "schedule",
        "step_epochs",
        "distillation",
        "distillation_temperature",
        "sync_bn",
        "clip_norm",
    )
    older = {key: value for key, value in RECIPE.to_dict().items() if key not in newer}
    assert Recipe.from_dict(older) == RECIPE
    assert (RECIPE.alpha, RECIPE.eps, RECIPE.schedule, RECIPE.decay_norm_bias) == (0.9, 1e-3, "exponential", True)
    off = ("nesterov", "distillation", "sync_bn", "clip_norm")
    assert not any(getattr(RECIPE, name) for name in off)


def test_data_of_a_recipe_is_that_of_earlier_versions_unless_a_newer_field_is_switched_on():
    assert not {"class_weights", "layer_decay", "frozen_stages"} & RECIPE.to_dict().keys()
    newer = RECIPE.replace(layer_decay=0.8, frozen_stages=2)
    assert newer.to_dict() == RECIPE.to_dict() | {"layer_decay": 0.8, "frozen_stages": 2}
    assert Recipe.from_dict(newer.to_dict()) == newer
    assert newer.replace(layer_decay=1.0, frozen_stages=0) == RECIPE


def test_missing_key():
    with pytest.raises(InputError, match="missing key 'batch_size'"):
        Recipe.from_dict({"optimizer": "sgd", "lr": 0.1, "epochs": 1})


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.lr = 1.0


def test_a_stretched_recipe_decays_as_much_in_more_epochs():
    long = RECIPE.stretched(3)
    assert (long.epochs, long.warmup_epochs) == (12, 1.0)
    assert long.lr_decay**3 == pytest.approx(RECIPE.lr_decay)
    stepped = RECIPE.replace(schedule="step", step_epochs=2).stretched(3)
    assert (stepped.epochs, stepped.step_epochs, stepped.lr_decay) == (12, 6, RECIPE.lr_decay)


def test_a_recipe_of_other_epochs_decays_as_much_in_them():
    assert RECIPE.lasting(RECIPE.epochs) == RECIPE
    short = RECIPE.lasting(2)
    assert (short.epochs, short.warmup_epochs) == (2, 1.0)
    assert short.lr_decay**2 == pytest.approx(RECIPE.lr_decay**4)
    assert RECIPE.replace(schedule="step", step_epochs=2).lasting(3).step_epochs == 2  # 1.5, rounded to even
    assert RECIPE.replace(schedule="step", step_epochs=1).lasting(1).step_epochs == 1


def test_a_replaced_value_is_checked():
    assert RECIPE.replace(lr=0.2).lr == 0.2
    with pytest.raises(InputError, match="batch_size is 1"):
        RECIPE.replace(batch_size=1)


def test_another_batch_size_by_hand():
    recipe = Recipe("sgd", 0.1, 10, 256, warmup_epochs=1.0, warmup_lr=0.02)
    linear, root, same = (recipe.at_batch_size(64, rule) for rule in ("linear", "sqrt", None))
    assert [(r.batch_size, r.lr, r.warmup_lr) for r in (linear, root, same)] == [
        (64, pytest.approx(0.025), pytest.approx(0.005)),
        (64, pytest.approx(0.05), pytest.approx(0.01)),
        (64, 0.1, 0.02),
    ]
    assert recipe.replace(warmup_lr=None).at_batch_size(512, "linear").warmup_lr is None
    with pytest.raises(InputError, match="scale_lr is 'cube'; allowed: linear, sqrt"):
        recipe.at_batch_size(64, "cube")
    with pytest.raises(InputError, match="batch_size is 1"):
        recipe.at_batch_size(1, "sqrt")
