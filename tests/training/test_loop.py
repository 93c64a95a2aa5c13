"""Trainings as a whole: the same seed gives the same bits, also when they are stopped and resumed."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.errors import Note
from fbnetv3.files import load_torch
from fbnetv3.training.accuracy import measure
from fbnetv3.training.checkpoint import EpochMetrics
from fbnetv3.training.loop import fit
from fbnetv3.training.trainer import DivergedError, Trainer
from tests.training.examples import DATA, FULL, RECIPE, first, new_model, same


@pytest.fixture(scope="module")
def uninterrupted(one_thread, tmp_path_factory):
    """The training that others must equal, and its folder."""
    out = tmp_path_factory.mktemp("uninterrupted")
    return fit(new_model(), RECIPE, DATA, seed=7, out=out), out


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_tf", "sgd"])
def test_the_same_seed_gives_the_same_bits(optimizer):
    recipe = RECIPE.replace(optimizer=optimizer)
    torch.manual_seed(1)
    one = fit(new_model(), recipe, DATA, seed=7, epochs=2)
    torch.manual_seed(2)  # the global generators must not matter
    np.random.seed(2)
    two = fit(new_model(), recipe, DATA, seed=7, epochs=2)
    assert one.metrics == two.metrics
    assert same(one.model, two.model)
    assert fit(new_model(), recipe, DATA, seed=8, epochs=1).metrics[0] != one.metrics[0]


def test_training_leaves_the_global_generators_alone():
    torchs, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    fit(new_model(), RECIPE, DATA, seed=7, epochs=1)
    assert torch.equal(torchs, torch.get_rng_state())
    assert (numpys == np.random.get_state()[1]).all()


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 6, 15])
def test_resuming_is_exact_to_the_last_bit(tmp_path, uninterrupted, stop_at):
    trained, folder = uninterrupted

    def stop(done, _total, _text):
        if done == stop_at:
            raise StopError

    with pytest.raises(StopError):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, progress=stop)
    resumed = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True)
    assert resumed.metrics == trained.metrics
    assert same(resumed.model, trained.model)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_metrics_are_in_the_folder(uninterrupted):
    trained, folder = uninterrupted
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["ema_acc1"] for row in rows] == list(trained.acc1)


def test_resuming_a_finished_training_trains_nothing(uninterrupted):
    trained, folder = uninterrupted
    calls = []
    again = fit(new_model(), RECIPE, DATA, seed=7, out=folder, resume=True, progress=lambda *a: calls.append(a))
    assert not calls
    assert same(again.model, trained.model)
    assert not again.model.training


def test_early_stopping_is_the_beginning_of_the_full_training(uninterrupted):
    short = fit(new_model(), RECIPE, DATA, seed=7, epochs=2)
    assert short.metrics == uninterrupted[0].metrics[:2]


def test_a_rule_ends_a_training_with_the_same_epochs_and_a_resumed_one_too(uninterrupted, tmp_path):
    seen = []

    def second(acc1):
        seen.append(acc1)
        return len(acc1) == 2

    short = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, stop=second)
    assert short.metrics == uninterrupted[0].metrics[:2]
    assert seen == [short.acc1[:1], short.acc1]
    again = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True, stop=second)
    assert again.metrics == short.metrics
    assert same(again.model, short.model)


def test_patience_ends_a_training_and_keeps_the_best_weights(monkeypatch, tmp_path):
    scripted, weights = (10.0, 30.0, 20.0, 30.0, 40.0), []

    def measure_epoch(trainer, epoch, _loss_sum, _split):
        weights.append(trainer.state.reported.classifier.weight.clone())
        return EpochMetrics(epoch + 1, 0.1, 1.0, scripted[epoch], scripted[epoch], 50.0, 50.0)

    monkeypatch.setattr(Trainer, "measure_epoch", measure_epoch)
    recipe = RECIPE.replace(epochs=5)
    trained = fit(new_model(), recipe, DATA, seed=7, out=tmp_path, patience=2)
    assert (trained.acc1, trained.epoch) == (scripted[:4], 2)  # of equal epochs the first is the best
    assert torch.equal(trained.model.classifier.weight, weights[1])
    assert not torch.equal(weights[1], weights[3])
    again = fit(new_model(), recipe, DATA, seed=7, out=tmp_path, patience=2, resume=True)
    assert (again.acc1, again.epoch) == (trained.acc1, 2)
    assert same(again.model, trained.model)
    longer = fit(new_model(), recipe, DATA, seed=7, out=tmp_path, patience=3, resume=True)
    assert (longer.acc1, longer.epoch) == (scripted, 5)
    assert torch.equal(longer.model.classifier.weight, weights[-1])


def test_patience_needs_epochs_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="patience is 0, which needs at least one epoch"):
        fit(new_model(), RECIPE, DATA, patience=0, out=tmp_path)
    with pytest.raises(InputError, match="patience is 2, which needs a folder for the best weights: out"):
        fit(new_model(), RECIPE, DATA, patience=2)


@pytest.mark.parametrize("epochs", [0, 4])
def test_a_number_of_epochs_out_of_range(epochs):
    with pytest.raises(InputError, match=f"epochs is {epochs}; allowed: 1 to the recipe's 3"):
        fit(new_model(), RECIPE, DATA, seed=7, epochs=epochs)


def test_progress_counts_the_steps_of_all_epochs():
    calls = []
    trained = fit(new_model(), RECIPE, DATA, seed=7, epochs=2, progress=lambda *a: calls.append(a))
    assert [(done, total) for done, total, _ in calls] == [(i, 10) for i in range(1, 11)]  # 256 images, 50 a step
    assert calls[0][2].startswith("epoch 1/2, loss ")
    rate, accuracy = trained.metrics[1].lr, trained.acc1[0]
    known = f"epoch 2/2, loss {trained.metrics[1].train_loss:.3f}, lr {rate:.3g}, accuracy {accuracy:.1f}%, "
    assert re.fullmatch(re.escape(known) + r"[\d,]+ images/s", calls[9][2])


def test_a_network_learns_real_images():
    recipe = RECIPE.replace(
        epochs=6, mixup=0.0, dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.1, lr_decay=0.8
    )
    trained = fit(new_model(recipe), recipe, FULL, seed=0, epochs=2)
    assert trained.acc1[-1] > 50
    assert trained.metrics[1].train_loss < trained.metrics[0].train_loss
    assert measure(trained.model, FULL, "test").acc1 == pytest.approx(trained.acc1[-1], abs=8)


def test_the_average_is_reported_if_the_recipe_says_so():
    with_ema, without = (
        fit(new_model(), RECIPE, DATA, seed=7, epochs=2),
        fit(new_model(), RECIPE.replace(ema=False), DATA, seed=7, epochs=2),
    )
    assert [m.raw_acc1 for m in with_ema.metrics] == [m.raw_acc1 for m in without.metrics]
    assert all(m.ema_acc1 is None for m in without.metrics)
    assert not same(with_ema.model, without.model)


def test_a_teacher_is_followed_and_not_changed():
    recipe = RECIPE.replace(distillation=0.9)
    message = r"the recipe distils with weight 0\.9: give a teacher, or set distillation to 0"
    with pytest.raises(InputError, match=message):
        fit(new_model(recipe), recipe, DATA)
    teacher = new_model(recipe, seed=11).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    taught = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, teacher=teacher)
    assert all(torch.equal(teacher.state_dict()[key], value) for key, value in before.items())
    alone = fit(new_model(recipe), RECIPE, DATA, seed=7, epochs=1)
    assert not same(taught.model, alone.model)
    ignored = fit(new_model(recipe), RECIPE, DATA, seed=7, epochs=1, teacher=teacher)
    assert same(ignored.model, alone.model)


@pytest.mark.parametrize(
    ("origins", "expected"),
    [((), ()), (("fbnetv3_g:fb",), ("fbnetv3_g:fb",)), (None, ("unknown",))],
    ids=["scratch", "released", "foreign"],
)
def test_what_is_learnt_from_a_teacher_inherits_its_origin(origins, expected):
    recipe = RECIPE.replace(distillation=0.9, batch_size=128)
    teacher = new_model(recipe, seed=11)
    if origins is None:
        teacher = torch.nn.Sequential(teacher)  # a network that says nothing about its weights
    else:
        teacher.derived_from = origins
    assert fit(new_model(recipe), recipe, DATA, epochs=1, teacher=teacher).model.derived_from == expected


def test_an_epoch_that_cannot_be_measured_is_trained_and_kept(tmp_path, uninterrupted):
    """Nothing of the epoch is trained again, and the training ends as the uninterrupted one."""
    steps, damaged = [0], {5, 15}

    class Damaged(type(DATA)):
        def batches(self, split, process):
            if steps[-1] in damaged:
                damaged.remove(steps[-1])
                raise InputError("an image is no image that can be read")
            return super().batches(split, process)

    data = Damaged(**{field.name: getattr(DATA, field.name) for field in dataclasses.fields(DATA)})
    options = {"seed": 7, "out": tmp_path, "progress": lambda done, *_: steps.append(done)}
    for epoch in (1, 3):
        words = rf"no image .*\. Epoch {epoch} is trained and saved: .* resume the training"
        with pytest.raises(InputError, match=words):
            fit(new_model(), RECIPE, data, resume=epoch > 1, **options)
        content = load_torch(tmp_path / "checkpoint.pt", "checkpoint")
        assert (len(content["metrics"]), content["position"]["step"]) == (epoch - 1, 5)
    resumed = fit(new_model(), RECIPE, data, resume=True, **options)
    assert steps == list(range(16))
    assert resumed.metrics == uninterrupted[0].metrics
    assert same(resumed.model, uninterrupted[0].model)


def test_a_position_that_the_epoch_does_not_have(tmp_path):
    fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, epochs=1)
    path = tmp_path / "checkpoint.pt"
    content = load_torch(path, "checkpoint")
    for change, words in (
        ({"step": 6}, "the checkpoint is at step 6 of an epoch of 5; give another folder"),
        ({"generators": [torch.zeros(7, dtype=torch.uint8)]}, "the checkpoint was changed: no state of a generator"),
    ):
        position = {"step": 5, "losses": [1.0], "generators": [torch.get_rng_state()]} | change
        torch.save(content | {"position": position}, path)
        with pytest.raises(InputError, match=words):
            fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True)


def test_a_weight_that_became_nan_in_the_last_step_is_no_result():
    class Last(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.nan

    class Net(torch.nn.Sequential):
        def forward(self, x):
            return Last.apply(super().forward(x))

    recipe = RECIPE.replace(batch_size=256, epochs=1, ema=False)
    network = Net(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    with pytest.raises(DivergedError, match=r"weights are infinite or NaN after epoch 1; recipe .*rmsprop"):
        fit(network, recipe, DATA)


def test_one_training_at_a_time_in_a_folder(tmp_path):
    def start_again(*_):
        with pytest.raises(InputError, match="is in use by another training"):
            fit(new_model(), RECIPE, DATA, out=tmp_path, resume=True)
        raise StopError

    with pytest.raises(StopError):
        fit(new_model(), RECIPE, DATA, out=tmp_path, progress=start_again)


def test_a_small_set_is_one_batch():
    """And a warning says so."""
    few = dataclasses.replace(DATA, train=first(FULL.train, 20))
    calls = []
    with pytest.warns(Note, match="batch_size is 50, but there are 20 images to train on: every step uses all of them"):
        fit(new_model(), RECIPE, few, seed=7, epochs=2, progress=lambda *a: calls.append(a))
    assert [done for done, _, _ in calls] == [1, 2]
