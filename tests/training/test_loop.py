import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.files import load_torch, save_torch, write_atomically
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.memory import Split, normalise
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.engine import cpu_threads, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import DivergedError, Trainer

ARCH = Arch("small", 28, Block("conv", 8, k=3, s=4), ((Block("ir", 8, k=3, n=2),),), Block("pool", 16, e=2))
FULL = fashion_mnist()
DATA = dataclasses.replace(
    FULL,
    train=Split(FULL.train.images[:256], FULL.train.labels[:256]),
    val=Split(FULL.val.images[:100], FULL.val.labels[:100]),
)
# Everything random is on, so that a difference anywhere shows.
RECIPE = Recipe(
    optimizer="rmsprop",
    lr=0.01,
    epochs=3,
    batch_size=50,
    warmup_epochs=0.5,
    lr_decay=0.6,
    mixup=0.3,
    dropout=0.2,
    stochastic_depth=0.3,
    ema=True,
    ema_decay=0.9,
    label_smoothing=0.1,
    augmentation="crop_flip",
    weight_decay=1e-4,
)


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


def new_model(recipe=RECIPE, seed=5):
    return seeded(lambda: build_model(ARCH, 10, 1, recipe.dropout, recipe.stochastic_depth), seed)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_tf", "sgd"])
def test_the_same_seed_gives_the_same_bits(optimizer):
    recipe = RECIPE.replace(optimizer=optimizer)
    torch.manual_seed(1)
    first = fit(new_model(), recipe, DATA, seed=7)
    torch.manual_seed(2)  # the global generator must not matter
    np.random.seed(2)
    second = fit(new_model(), recipe, DATA, seed=7)
    assert first.metrics == second.metrics
    assert same(first.model, second.model)
    third = fit(new_model(), recipe, DATA, seed=8)
    assert third.metrics != first.metrics


def test_training_leaves_the_global_generators_alone():
    state = torch.get_rng_state()
    fit(new_model(), RECIPE, DATA, seed=7, epochs=1)
    assert torch.equal(state, torch.get_rng_state())


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 6, 8, 15])
def test_resume_is_bit_exact(tmp_path, stop_at):
    whole = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path / "whole")

    def stop(done, _total, _text):
        if done == stop_at:
            raise StopError

    with pytest.raises(StopError):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path / "cut", progress=stop)
    resumed = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path / "cut", resume=True)
    assert resumed.metrics == whole.metrics
    assert same(resumed.model, whole.model)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[2]["ema_acc1"] == whole.acc1[2]


def test_resuming_a_finished_training_trains_nothing(tmp_path):
    whole = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    calls = []
    again = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True, progress=lambda *a: calls.append(a))
    assert not calls
    assert same(again.model, whole.model)


def test_early_stopping_is_a_prefix_of_the_whole_training():
    whole, short = fit(new_model(), RECIPE, DATA, seed=7), fit(new_model(), RECIPE, DATA, seed=7, epochs=2)
    assert short.metrics == whole.metrics[:2]
    with pytest.raises(InputError, match="epochs is 4; allowed: 1 to the recipe's 3"):
        fit(new_model(), RECIPE, DATA, seed=7, epochs=4)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    fit(new_model(), RECIPE, DATA, seed=7, epochs=1, out=tmp_path)
    with pytest.raises(InputError, match="already holds a training"):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path)
    with pytest.raises(InputError, match="another training: seed was 7, now 8"):
        fit(new_model(), RECIPE, DATA, seed=8, out=tmp_path, resume=True)
    with pytest.raises(InputError, match="another training: recipe"):
        fit(new_model(), RECIPE.replace(lr=0.02), DATA, seed=7, out=tmp_path, resume=True)
    other = build_model(dataclasses.replace(ARCH, head=None), 10, 1)
    with pytest.raises(InputError, match="another network"):
        fit(other, RECIPE, DATA, seed=7, out=tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes((tmp_path / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="is no checkpoint or is damaged"):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True)


def test_a_network_learns_real_images():
    recipe = RECIPE.replace(
        epochs=6, mixup=0.0, dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.1, lr_decay=0.8
    )
    trained = fit(new_model(recipe), recipe, FULL, seed=0, epochs=2)
    assert trained.acc1[-1] > 50
    assert trained.metrics[1].train_loss < trained.metrics[0].train_loss
    assert measure(trained.model, FULL, "test").acc1 == pytest.approx(trained.acc1[-1], abs=8)


def test_one_plain_step_by_hand():
    recipe = Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=256, momentum=0.0)
    model, expected = new_model(recipe), new_model(recipe)
    fit(model, recipe, DATA, seed=0)
    x = normalise(DATA.train.images, DATA.mean, DATA.std)
    F.cross_entropy(expected.train()(x), DATA.train.labels).backward()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad, rtol=1e-4, atol=1e-6)


def test_mixup_equals_the_loss_of_mixed_targets():
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, ema=False)
    model = new_model(recipe).eval()
    run = Trainer.start(model, recipe.replace(optimizer="sgd", lr=1e-9), DATA)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x, labels = normalise(DATA.train.images[:8], DATA.mean, DATA.std), DATA.train.labels[:8]
    loss = run.step(x, labels, np.random.default_rng(3), "here")
    weight = np.random.default_rng(3).beta(0.3, 0.3)
    one_hot = F.one_hot(labels, 10).float()
    target = weight * one_hot + (1 - weight) * one_hot.flip(0)
    model.load_state_dict(before)
    logits = model(weight * x + (1 - weight) * x.flip(0))
    assert loss == pytest.approx(F.cross_entropy(logits, target, label_smoothing=0.1).item(), rel=1e-5)


def test_ema_is_reported_when_the_recipe_says_so():
    with_ema, without = (
        fit(new_model(), RECIPE, DATA, seed=7),
        fit(new_model(), RECIPE.replace(ema=False), DATA, seed=7),
    )
    assert [m.raw_acc1 for m in with_ema.metrics] == [m.raw_acc1 for m in without.metrics]
    assert all(m.ema_acc1 is None for m in without.metrics)
    assert not same(with_ema.model, without.model)


def test_a_loss_that_is_not_finite_stops_with_step_and_recipe():
    recipe = Recipe(optimizer="sgd", lr=1e30, epochs=1, batch_size=50)
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) at step \d+, learning rate 1e\+30; recipe .*\"optimizer\": \"sgd\""
    ):
        fit(new_model(recipe), recipe, DATA, seed=0)


def test_evaluate_counts_hits():
    class Constant(torch.nn.Module):
        def forward(self, x):
            return F.one_hot(torch.full((len(x),), 3), 10).float()

    assert measure(Constant(), FULL, "val").acc1 == 10.0
    three = dataclasses.replace(FULL, val=Split(FULL.val.images[:3], torch.tensor([3, 1, 3])))
    accuracy = measure(Constant(), three, "val")
    assert math.isclose(accuracy.acc1, 200 / 3)
    assert measure(
        Constant(), dataclasses.replace(FULL, val=Split(FULL.val.images[:2], torch.tensor([3, 9]))), "val"
    ).acc5 in (50, 100)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.files.os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*file: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_loading_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("evil",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="holds more than tensors and plain data"):
        load_torch(tmp_path / "evil.pt", "checkpoint", ("model",))
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(InputError, match="is no checkpoint or is damaged"):
        load_torch(tmp_path / "text.pt", "checkpoint", ("model",))
    save_torch(tmp_path / "good.pt", {"other": 1})
    with pytest.raises(InputError, match="it needs the entries model"):
        load_torch(tmp_path / "good.pt", "checkpoint", ("model",))
    with pytest.raises(InputError, match="no such file"):
        load_torch(tmp_path / "absent.pt", "checkpoint", ("model",))
