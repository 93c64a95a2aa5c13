"""Learning rates, optimizers and averages against formulas, timm and torch."""

import math

import pytest
import torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fbnetv3.training.optim import (
    MovingAverage,
    RecipeSchedule,
    learning_rate,
    make_average,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from fbnetv3.training.recipe import Recipe
from tests.training.examples import new_model

BASE = Recipe("sgd", 0.3, 10, 32, momentum=0.9, weight_decay=0.01, lr_decay=0.9)
TIMM_NAMES = {"sgd": "momentum", "rmsprop": "rmsprop", "rmsprop_tf": "rmsproptf"}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def train(model, optimizer, steps=4, after=lambda: None):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn(8, 3, 4, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        after()
    return [p.detach().clone() for p in model.parameters()]


def names_and_decays(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [([names[id(p)] for p in group["params"]], group["weight_decay"]) for group in groups]


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.3, 2.0, 5.0])
@pytest.mark.parametrize("steps", [1, 7, 39, 390])
def test_rates_of_recipes_without_the_newer_fields_are_what_they_were_to_the_last_bit(warmup, steps):
    def before(recipe, step):
        warmup_steps = recipe.warmup_epochs * steps
        if step < warmup_steps:
            return recipe.lr * (step + 1) / (warmup_steps + 1)
        return recipe.lr * recipe.lr_decay ** int((step - warmup_steps) / steps)

    recipe = BASE.replace(warmup_epochs=warmup, lr_decay=0.27)
    for step in range(10 * steps):
        assert learning_rate(recipe, step, steps) == before(recipe, step)


def test_learning_rate_warms_up_and_decays_once_an_epoch():
    recipe = Recipe("sgd", 0.1, 4, 32, warmup_epochs=1.0, lr_decay=0.5)
    rates = [learning_rate(recipe, step, 4) for step in range(16)]
    assert rates[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert rates[4:8] == [0.1] * 4
    assert rates[8:12] == [0.05] * 4
    assert rates[12:] == [0.025] * 4


@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("warmup_lr", [None, 0.0, 0.01])
@pytest.mark.parametrize(
    ("schedule", "timm"),
    [
        ("exponential", {"sched": "step", "decay_epochs": 1, "decay_rate": 0.9}),
        ("step", {"sched": "step", "decay_epochs": 3, "decay_rate": 0.9}),
        ("cosine", {"sched": "cosine", "min_lr": 0.0}),
    ],
)
def test_rate_of_every_step_is_that_of_timms_scheduler(schedule, timm, warmup, warmup_lr):
    steps = 13
    recipe = BASE.replace(schedule=schedule, warmup_epochs=float(warmup), warmup_lr=warmup_lr, step_epochs=3)
    first = 0.3 / (warmup * steps + 1) if warmup_lr is None else warmup_lr
    optimizer = torch.optim.SGD(network().parameters(), recipe.lr)
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        num_epochs=10 - warmup,
        warmup_epochs=warmup,
        warmup_lr=first,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=steps,
        **timm,
    )
    assert epochs == recipe.epochs
    for step in range(10 * steps):
        rate = optimizer.param_groups[0]["lr"]
        assert learning_rate(recipe, step, steps) == pytest.approx(rate, rel=1e-12, abs=0.0), step
        scheduler.step_update(step + 1)


def test_cosine_starts_at_the_rate_and_ends_near_zero():
    recipe = BASE.replace(schedule="cosine", warmup_epochs=2.0)
    assert learning_rate(recipe, 20, 10) == recipe.lr
    assert learning_rate(recipe, 60, 10) == pytest.approx(recipe.lr / 2)
    assert learning_rate(recipe, 99, 10) == pytest.approx(recipe.lr * 0.5 * (1 + math.cos(math.pi * 79 / 80)))


def test_step_schedule_decays_once_per_so_many_epochs():
    recipe = BASE.replace(schedule="step", step_epochs=4, lr_decay=0.1, warmup_epochs=1.0)
    rates = [learning_rate(recipe, epoch, 1) for epoch in range(10)]
    assert rates == pytest.approx([0.15] + [0.3] * 4 + [0.03] * 4 + [0.003])


@pytest.mark.parametrize("schedule", ["exponential", "step", "cosine"])
def test_a_stretched_recipe_goes_through_the_same_rates(schedule):
    plain = BASE.replace(schedule=schedule, step_epochs=2)
    long = plain.stretched(3)
    assert long.epochs == 30
    assert learning_rate(long, 24, 1) == pytest.approx(learning_rate(plain, 8, 1))


def test_all_parameters_are_decayed_by_default():
    model = network()
    (group,) = parameter_groups(model, BASE)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_groups_without_decay_of_norms_and_biases_are_timms():
    model = network()
    model[0].weight.requires_grad = False
    ours = names_and_decays(model, parameter_groups(model, BASE.replace(decay_norm_bias=False)))
    assert ours == names_and_decays(model, param_groups_weight_decay(model, 0.01))
    assert ours == [(["0.bias", "1.weight", "1.bias", "3.bias"], 0.0), (["3.weight"], 0.01)]


def test_no_empty_groups():
    groups = parameter_groups(nn.Linear(3, 2, bias=False), BASE.replace(decay_norm_bias=False))
    assert [group["weight_decay"] for group in groups] == [0.01]


def test_groups_with_layer_decay_are_timms_and_hold_no_frozen_parameters():
    model = new_model()
    model.stem.conv.weight.requires_grad = False
    recipe = BASE.replace(decay_norm_bias=False, layer_decay=0.7)
    theirs = param_groups_layer_decay(model, weight_decay=0.01, layer_decay=0.7)
    scales = {id(parameter): (g["lr_scale"], g["weight_decay"]) for g in theirs for parameter in g["params"]}
    ours = make_optimizer(model, recipe)
    found = {id(parameter): (g["lr_scale"], g["weight_decay"]) for g in ours.param_groups for parameter in g["params"]}
    assert found.keys() == scales.keys()
    assert all(found[key] == pytest.approx(scales[key]) for key in scales)
    assert len(ours.param_groups) == len(theirs)
    (group,) = {g["weight_decay"] for g in parameter_groups(model, BASE.replace(layer_decay=0.7))}
    assert group == 0.01


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf"])
def test_every_layer_learns_at_its_part_of_the_rate(optimizer):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    made = make_optimizer(model, BASE.replace(layer_decay=0.25, optimizer=optimizer))
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.3 / 4, 0.3])
    before = [parameter.item() for parameter in model.parameters()]
    set_learning_rate(made, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones(1, 1)
    for group in made.param_groups:
        group["weight_decay"] = 0.0
    made.step()
    near_image, classifier = (old - new.item() for old, new in zip(before, model.parameters(), strict=True))
    assert near_image == pytest.approx(classifier / 4, rel=1e-4)
    plain = make_optimizer(nn.Linear(1, 1), BASE)
    set_learning_rate(plain, 0.1)
    assert plain.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("decay_norm_bias", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf"])
def test_steps_are_those_of_timms_optimizer_factory(optimizer, decay_norm_bias):
    recipe = BASE.replace(optimizer=optimizer, decay_norm_bias=decay_norm_bias, lr=0.01, alpha=0.8, eps=1e-2)
    more = {} if optimizer == "sgd" else {"alpha": 0.8, "eps": 1e-2}
    model, other = network(), network()
    theirs = create_optimizer_v2(
        other,
        TIMM_NAMES[optimizer],
        lr=0.01,
        weight_decay=0.01,
        momentum=0.9,
        filter_bias_and_bn=not decay_norm_bias,
        **more,
    )
    ours = make_optimizer(model, recipe)
    assert names_and_decays(model, ours.param_groups) == names_and_decays(other, theirs.param_groups)
    for a, b in zip(train(model, ours), train(other, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def one_step(recipe):
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = make_optimizer(model, recipe)
    model.weight.grad = torch.tensor([[0.5]])
    optimizer.step()
    return model.weight.item()


def test_one_step_of_every_optimizer_by_hand():
    base = Recipe("sgd", 0.1, 4, 32, weight_decay=0.2, momentum=0.0)
    gradient = 0.5 + 0.2 * 1.0
    assert one_step(base) == pytest.approx(1 - 0.1 * gradient)
    # torch: the mean square starts at 0, epsilon (1e-3) outside the root; TensorFlow's: at 1, inside.
    assert one_step(base.replace(optimizer="rmsprop")) == pytest.approx(
        1 - 0.1 * gradient / ((0.1 * gradient**2) ** 0.5 + 1e-3)
    )
    tf = 1 - 0.1 * gradient / (0.9 + 0.1 * gradient**2 + 1e-3) ** 0.5
    assert one_step(base.replace(optimizer="rmsprop_tf")) == pytest.approx(tf, rel=1e-5)


@pytest.mark.parametrize(("nesterov", "name"), [(True, "sgd"), (False, "momentum")])
def test_nesterov_is_timms_sgd(nesterov, name):
    model, other = network(), network()
    ours = train(model, make_optimizer(model, BASE.replace(lr=0.01, nesterov=nesterov)))
    factory = create_optimizer_v2(other, name, lr=0.01, weight_decay=0.01, momentum=0.9, filter_bias_and_bn=False)
    for a, b in zip(ours, train(other, factory), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_tf"])
def test_alpha_and_eps_reach_the_optimizer(optimizer):
    (group,) = make_optimizer(network(), BASE.replace(optimizer=optimizer, alpha=0.7, eps=0.05)).param_groups
    assert (group["alpha"], group["eps"]) == (0.7, 0.05)


def test_the_moving_average_is_that_of_timm():
    model = network()
    ema = MovingAverage(model, 0.9)
    theirs = ModelEmaV3(model, decay=0.9)
    updates = 0

    def update():
        nonlocal updates
        updates += 1
        ema.update()
        theirs.update(model, step=updates)  # as timm's train.py calls it
        for (name, a), b in zip(ema.module.state_dict().items(), theirs.module.state_dict().values(), strict=True):
            if a.is_floating_point():
                torch.testing.assert_close(a, b, rtol=1e-12, atol=0.0, msg=f"{name} after {updates}")

    train(model, make_optimizer(model, BASE), steps=8, after=update)
    assert updates == 8


def test_the_moving_average_equals_torchs_to_the_last_bit_and_reads_its_state():
    model = network()
    ours = MovingAverage(model, 0.9)
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(5):
        model(torch.randn(6, 3, 4, 4))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        torchs.update_parameters(model)
    assert ours.n_averaged == torchs.n_averaged == 5
    assert list(ours.state_dict()) == list(torchs.state_dict())
    for key, value in torchs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    again = MovingAverage(model, 0.9)
    again.load_state_dict(torchs.state_dict())
    again.update()
    torchs.update_parameters(model)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in torchs.state_dict().items())


@pytest.mark.parametrize(
    "recipe", [BASE, BASE.replace(schedule="cosine", warmup_epochs=1.5), BASE.replace(schedule="step", step_epochs=3)]
)
def test_torchs_scheduler_has_the_learning_rate_of_every_step(recipe, tmp_path):
    optimizer = make_optimizer(network(), recipe)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr_scale": 0.3})
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": recipe.lr / 4})
    schedule, steps = RecipeSchedule(optimizer, recipe, 7), 7 * recipe.epochs
    for step in range(steps):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates[0] == learning_rate(recipe, step, 7)  # to the last bit
        assert rates[1:] == [rates[0] * 0.3, pytest.approx(rates[0] / 4, rel=1e-15)]
        assert schedule.get_last_lr() == rates
        if step == 30:  # what is saved is plain data, and is continued
            torch.save([optimizer.state_dict(), schedule.state_dict()], tmp_path / "saved.pt")
            saved = torch.load(tmp_path / "saved.pt", weights_only=True)
            schedule = RecipeSchedule(optimizer, recipe, 7)
            for part, state in zip((optimizer, schedule), saved, strict=True):
                part.load_state_dict(state)
        optimizer.step()
        schedule.step()


def test_the_average_is_what_the_recipe_reports():
    assert make_average(network(), BASE) is None
    average = make_average(network(), BASE.replace(ema=True, ema_decay=0.8))
    assert isinstance(average, MovingAverage)
    assert average.decay == 0.8
