import dataclasses
import math

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.optim import learning_rate, make_optimizer
from fbnetv3.training.recipe import Recipe

RECIPE = Recipe(optimizer="sgd", lr=0.1, epochs=4, batch_size=32, warmup_epochs=1.0, lr_decay=0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown key 'colour'; allowed: optimizer, lr"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; Input should be 'rmsprop', 'rmsprop_tf' or 'sgd'"),
        ({"lr": "1e-5"}, "write 1.0e-5"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.inf}, "lr is inf"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
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
        ({"sync_bn": "yes"}, "sync_bn is 'yes'"),
        ({"nesterov": True, "momentum": 0.0}, "recipe: nesterov is true and momentum 0.0; .* above 0"),
        ({"schedule": "cosine", "warmup_epochs": 4.0}, "warmup_epochs is 4.0; schedule cosine needs fewer than the 4"),
    ],
)
def test_recipe_is_strict(change, words):
    with pytest.raises(InputError, match=words):
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


def test_missing_key():
    with pytest.raises(InputError, match="missing key 'batch_size'"):
        Recipe.from_dict({"optimizer": "sgd", "lr": 0.1, "epochs": 1})


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.lr = 1.0


def test_learning_rate_warms_up_and_decays_once_an_epoch():
    rates = [learning_rate(RECIPE, step, 4) for step in range(16)]
    assert rates[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert rates[4:8] == [0.1] * 4
    assert rates[8:12] == [0.05] * 4
    assert rates[12:] == [0.025] * 4


def test_stretched_recipe_ends_at_the_same_rate():
    plain = RECIPE.replace(warmup_epochs=0.0, epochs=3)
    long = plain.stretched(3)
    assert long.epochs == 9
    assert learning_rate(long, 9, 1) == pytest.approx(learning_rate(plain, 3, 1))


def one_step(recipe):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = make_optimizer(model, recipe)
    model.weight.grad = torch.tensor([[0.5]])
    optimizer.step()
    return model.weight.item()


def test_one_step_of_every_optimizer_by_hand():
    base = RECIPE.replace(weight_decay=0.2, momentum=0.0)
    gradient = 0.5 + 0.2 * 1.0
    assert one_step(base) == pytest.approx(1 - 0.1 * gradient)
    # torch: the mean square starts at 0, epsilon (1e-3) outside the root; TensorFlow's: at 1, inside.
    assert one_step(base.replace(optimizer="rmsprop")) == pytest.approx(
        1 - 0.1 * gradient / ((0.1 * gradient**2) ** 0.5 + 1e-3)
    )
    tf = 1 - 0.1 * gradient / (0.9 + 0.1 * gradient**2 + 1e-3) ** 0.5
    assert one_step(base.replace(optimizer="rmsprop_tf")) == pytest.approx(tf, rel=1e-5)
