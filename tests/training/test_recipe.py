import dataclasses
import math

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.recipes import list_recipes, load_recipe, read_recipe_file, save_recipe
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
    ],
)
def test_recipe_is_strict(change, words):
    with pytest.raises(InputError, match=words):
        Recipe.from_dict(RECIPE.to_dict() | change)


def test_missing_key():
    with pytest.raises(InputError, match="missing key 'batch_size'"):
        Recipe.from_dict({"optimizer": "sgd", "lr": 0.1, "epochs": 1})


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.lr = 1.0


def test_yaml_round_trip(tmp_path):
    path = tmp_path / "mine.yaml"
    save_recipe(RECIPE, path, about="a test", provenance="choice", source="by hand", expected="not measured")
    assert load_recipe(path) == load_recipe(str(path)) == RECIPE
    assert read_recipe_file(path).sources["lr"] == ("choice", "by hand")


def test_a_users_plain_file(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text("{optimizer: rmsprop, lr: 0.01, epochs: 2, batch_size: 64}\n")
    assert load_recipe(path) == Recipe("rmsprop", 0.01, 2, 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer: [", "is no recipe, or is damaged"),
        ("- 1", "holds list, not a mapping"),
        ("optimizer: sgd\nlr: 1e-2\nepochs: 1\nbatch_size: 2", "mine.yaml: lr is '1e-2'.*write 1.0e-5"),
        (
            "{schema: 1, name: a, about: b, expected: c, values: {lr: {value: 1.0, provenance: rumour, source: x}}}",
            "rumour",
        ),
        ("{schema: 1, name: a, about: b, expected: c, values: {lr: 1.0}}", "values: lr: expected a mapping"),
        ("{schema: 2, name: a, about: b, expected: c, values: {}}", "schema is 2"),
    ],
)
def test_damaged_recipe_files(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_recipe(path)


def test_unknown_recipe_names_the_choices():
    with pytest.raises(InputError, match=r"unknown recipe 'fbnetv3_zz'; available: .*fashion_mnist/micro"):
        load_recipe("fbnetv3_zz")


@pytest.mark.parametrize("name", list_recipes())
def test_every_packaged_recipe_names_itself_and_the_source_of_every_value(name):
    file = read_recipe_file(name)
    assert file.name == name
    assert all(source for _, source in file.sources.values())


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
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer([parameter], recipe)
    parameter.grad = torch.tensor([0.5])
    optimizer.step()
    return parameter.item()


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
