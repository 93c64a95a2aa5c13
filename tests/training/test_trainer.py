"""Single steps and epochs, computed again by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fbnetv3 import InputError
from fbnetv3.device import generator_states
from fbnetv3.training import trainer as trainer_module
from fbnetv3.training.checkpoint import Position, save
from fbnetv3.training.data.memory import Split, normalise
from fbnetv3.training.engine import Engine
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import DivergedError, Trainer
from tests.training.examples import DATA, RECIPE, freeze_norms, new_model, same


def batch(count):
    return normalise(DATA.train.images[:count], DATA.mean, DATA.std), DATA.train.labels[:count]


def test_a_plain_step_by_hand():
    recipe = Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=256, momentum=0.0)
    model, expected = new_model(recipe), new_model(recipe)
    fit(model, recipe, DATA, seed=0)
    x, labels = batch(256)
    F.cross_entropy(expected.train()(x), labels).backward()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad, rtol=1e-4, atol=1e-6)


def test_mixup_equals_the_loss_of_mixed_targets():
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, ema=False, optimizer="sgd", lr=1e-9)
    model = new_model(recipe).eval()
    trainer = Trainer.start(model, recipe, DATA)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x, labels = batch(8)
    (loss,) = trainer.step(x, labels, np.random.default_rng(3)).tolist()
    weight = np.random.default_rng(3).beta(0.3, 0.3)
    one_hot = F.one_hot(labels, 10).float()
    target = weight * one_hot + (1 - weight) * one_hot.flip(0)
    model.load_state_dict(before)
    logits = model(weight * x + (1 - weight) * x.flip(0))
    assert loss == pytest.approx(F.cross_entropy(logits, target, label_smoothing=0.1).item(), rel=1e-5)


def test_an_epoch_reports_every_step_and_its_mean_loss():
    trainer, reports = Trainer.start(new_model(), RECIPE, DATA, seed=7), []
    loss_sum = trainer.train_epoch(1, None, lambda epoch, step, losses: reports.append((epoch, step, losses.total)))
    assert [(epoch, step) for epoch, step, _ in reports] == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]
    sums = [so_far for *_, so_far in reports]
    assert sums == sorted(set(sums))
    assert loss_sum == sums[-1]
    metrics = trainer.measure_epoch(1, loss_sum, "val")
    assert metrics.train_loss == pytest.approx(loss_sum / 5)
    assert trainer.state.optimizer.param_groups[0]["lr"] == metrics.lr


def test_an_epoch_continues_where_it_was_left():
    class StopError(Exception):
        pass

    def train(trainer, position, stop_at=None):
        saved = []

        def after(_epoch, step, losses):
            if step == stop_at:
                saved.append(Position(step, [losses.fetch()], generator_states(trainer.device)))
                raise StopError

        try:
            return trainer.train_epoch(0, position, after)
        except StopError:
            return saved[0]

    full, stopped = (Trainer.start(new_model(), RECIPE, DATA, seed=7) for _ in range(2))
    loss_sum = train(full, None)
    position = train(stopped, None, stop_at=2)
    torch.manual_seed(99)  # what happens between stopping and continuing must not matter
    assert train(stopped, position) == loss_sum
    assert same(stopped.state.model, full.state.model)
    assert same(stopped.state.ema, full.state.ema)


def test_frozen_stages_keep_weights_and_statistics_and_the_rest_learns():
    recipe = RECIPE.replace(frozen_stages=1, weight_decay=0.01)
    model = new_model(recipe)
    model.head.conv.weight.requires_grad = False  # what the user froze stays frozen too
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = Trainer.start(model, recipe, DATA, seed=7)
    trainer.train_epoch(0, None, lambda *_: None)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith(("head.expand.", "classifier."))}


def test_balanced_classes_come_from_the_training_images():
    recipe = RECIPE.replace(class_weights="balanced")
    rows = torch.cat([(DATA.train.labels == 0).nonzero()[:3, 0], (DATA.train.labels == 7).nonzero()[:1, 0]])
    few = dataclasses.replace(DATA, train=Split(DATA.train.images[rows], DATA.train.labels[rows]))
    trainer = Trainer.start(new_model(recipe), recipe.replace(batch_size=4), few)
    assert trainer.class_weights.tolist() == pytest.approx([4 / 6, *[0.0] * 6, 2.0, 0.0, 0.0])
    assert trainer.identity["recipe"]["class_weights"] == "balanced"
    assert Trainer.start(new_model(), RECIPE, DATA).class_weights is None


def test_the_identity_names_everything_that_decides_the_numbers():
    start = Trainer.start(new_model(), RECIPE, DATA, seed=7, engine=Engine(accumulate=2))
    assert start.identity == {
        "recipe": RECIPE.to_dict(),
        "seed": 7,
        "data": "fashion_mnist",
        "train_data": "fashion_mnist",
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "accumulate": 2,
    }


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_a_batch_give_its_gradient(parts):
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.1)
    undivided = fit(freeze_norms(new_model(recipe)), recipe, DATA, seed=7, epochs=1)
    in_parts = fit(freeze_norms(new_model(recipe)), recipe, DATA, seed=7, epochs=1, engine=Engine(accumulate=parts))
    for a, b in zip(undivided.model.state_dict().values(), in_parts.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_parts_that_do_not_divide_the_batch():
    message = "accumulate is 3, which does not divide a process's batch of 50 images evenly; give a divisor of 50"
    with pytest.raises(InputError, match=message):
        Trainer.start(new_model(), RECIPE, DATA, engine=Engine(accumulate=3))


def test_bfloat16_keeps_weights_and_averages_in_float32():
    recipe = RECIPE.replace(optimizer="sgd", lr=0.05)
    trained = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, engine=Engine(precision="bf16"))
    exact = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1)
    assert {v.dtype for v in trained.model.state_dict().values()} == {torch.float32, torch.int64}
    assert trained.metrics[0].train_loss != exact.metrics[0].train_loss
    assert trained.metrics[0].train_loss == pytest.approx(exact.metrics[0].train_loss, rel=0.02)


def test_clipping_bounds_the_gradient():
    recipe = RECIPE.replace(
        optimizer="sgd", lr=1.0, momentum=0.0, clip_norm=1e-6, weight_decay=0.0, ema=False, warmup_epochs=0
    )
    model, before = new_model(recipe), new_model(recipe)
    fit(model, recipe, DATA, seed=7, epochs=1)
    moved = [float((a - b).detach().norm()) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-5


def test_a_loss_that_is_not_finite_stops_with_step_and_recipe():
    recipe = Recipe(optimizer="sgd", lr=1e30, epochs=1, batch_size=50)
    message = r"the loss is (nan|inf) at step \d+, learning rate 1e\+30; recipe .*\"optimizer\": \"sgd\""
    with pytest.raises(DivergedError, match=message):
        fit(new_model(recipe), recipe, DATA, seed=0)


def test_losses_that_wait_on_the_device_give_the_same_training_and_name_the_same_step(monkeypatch):
    recipe = RECIPE.replace(epochs=2)
    plain = fit(new_model(recipe), recipe, DATA, seed=7)
    with pytest.raises(DivergedError) as at_once:
        fit(new_model(), Recipe(optimizer="sgd", lr=1e30, epochs=1, batch_size=50), DATA, seed=0)
    monkeypatch.setattr(trainer_module, "fetch_steps", lambda device: 4)
    progress = []
    waiting = fit(new_model(recipe), recipe, DATA, seed=7, progress=lambda *report: progress.append(report))
    assert waiting.metrics == plain.metrics
    assert same(waiting.model, plain.model)
    # No loss is known before the first four steps; after the last step of an epoch all are.
    assert [text.partition(", ")[2][:4] for *_, text in progress] == ["", "", "", "loss", "loss"] * 2
    with pytest.raises(DivergedError) as later:
        fit(new_model(), Recipe(optimizer="sgd", lr=1e30, epochs=1, batch_size=50), DATA, seed=0)
    assert str(later.value) == str(at_once.value)


def test_nothing_is_saved_of_a_training_that_diverged(tmp_path, monkeypatch):
    # The first step sees a finite loss and makes the weights infinite: only they show it, for no loss comes after them.
    def poison(optimizer, *_):
        next(iter(optimizer.param_groups[0]["params"])).data.fill_(float("inf"))

    def start(model, recipe, *arguments):
        trainer = real(model, recipe, *arguments)
        trainer.state.optimizer.register_step_post_hook(poison)
        return trainer

    real = Trainer.start
    monkeypatch.setattr(Trainer, "start", start)
    with pytest.raises(DivergedError, match="weights are infinite or NaN after step 1 of epoch 1; recipe"):
        fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, engine=Engine(checkpoint_steps=1))
    assert not list(tmp_path.glob("*.pt"))


def test_a_checkpoint_has_the_losses_that_nobody_had_fetched_yet(tmp_path, monkeypatch):
    positions = []

    def saved(state, out, identity, metrics, position=None):
        if position is not None:
            positions.append((position.step, tuple(position.losses)))

    monkeypatch.setattr("fbnetv3.training.journal.save", saved)
    for every in (1, 4):
        monkeypatch.setattr(trainer_module, "fetch_steps", lambda device, every=every: every)
        fit(new_model(), RECIPE, DATA, seed=7, epochs=1, out=tmp_path / str(every), engine=Engine(checkpoint_steps=2))
    assert [step for step, _ in positions] == [2, 4, 2, 4]
    assert positions[:2] == positions[2:]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_resumed_training_in_half_precision_is_the_uninterrupted_one(tmp_path, precision):
    class StopError(Exception):
        pass

    def stop(done, _total, _text):
        if done == 8:
            raise StopError

    settings = {"seed": 7, "engine": Engine(precision=precision, checkpoint_steps=2, accumulate=2)}
    recipe = RECIPE.replace(epochs=2, clip_norm=1.0)
    full = fit(new_model(recipe), recipe, DATA, **settings)
    with pytest.raises(StopError):
        fit(new_model(recipe), recipe, DATA, **settings, out=tmp_path, progress=stop)
    resumed = fit(new_model(recipe), recipe, DATA, **settings, out=tmp_path, resume=True)
    assert resumed.metrics == full.metrics
    assert same(resumed.model, full.model)


def test_fp16_scales_the_loss_and_tells_of_the_steps_that_it_left_out(caplog):
    recipe = RECIPE.replace(optimizer="sgd", lr=0.05, clip_norm=1.0)
    trainer = Trainer.start(new_model(recipe), recipe, DATA, seed=7, engine=Engine(precision="fp16"))
    trainer.state.scaler._init_scale = 2.0**40  # so large that the first gradients are infinite
    loss_sum = trainer.train_epoch(0, None, lambda *_: None)
    assert trainer.state.scaler.skipped == 5
    assert "epoch 1: fp16 left out 5 of 5 steps, whose gradients were too large; a few are normal" in caplog.text
    trainer.check_weights("here")
    assert trainer.state.scaler.get_scale() == 2.0**35
    exact = Trainer.start(new_model(recipe), recipe, DATA, seed=7).train_epoch(0, None, lambda *_: None)
    assert loss_sum == pytest.approx(exact, rel=0.2)


def test_the_average_starts_at_the_first_step_that_fp16_makes():
    trainer = Trainer.start(new_model(), RECIPE, DATA, seed=7, engine=Engine(precision="fp16"))
    trainer.state.scaler._init_scale = 2.0**40
    while trainer.state.ema.n_averaged == 0:
        trainer.step(*batch(50), np.random.default_rng(0))
    assert trainer.state.scaler.skipped > 0
    assert same(trainer.state.ema.module, trainer.state.model)
    first, untrained = (next(model.parameters()) for model in (trainer.state.model, new_model()))
    assert not torch.equal(first, untrained)


def test_gradients_are_clipped_as_they_are_without_fp16_s_scale():
    recipe = Recipe("sgd", 1.0, epochs=1, batch_size=50, momentum=0.0, clip_norm=0.01)
    trainer = Trainer.start(new_model(recipe), recipe, DATA, engine=Engine(precision="fp16"))
    before = [parameter.detach().clone() for parameter in trainer.state.model.parameters()]
    trainer.step(*batch(50), np.random.default_rng(0))
    moved = [a - b for a, b in zip(trainer.state.model.parameters(), before, strict=True)]
    assert torch.cat([part.detach().flatten() for part in moved]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_scale_that_falls_to_nothing_ends_the_training():
    trainer = Trainer.start(new_model(), RECIPE, DATA, seed=7, engine=Engine(precision="fp16"))
    trainer.state.scaler._init_scale = 2.0**-13
    next(trainer.state.model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    message = "the gradients are infinite at step 1, however small fp16's scale of them is; use bf16, a lower"
    with pytest.raises(DivergedError, match=message):
        trainer.train_epoch(0, None, lambda *_: None)


def test_settings_of_torch_are_those_of_the_engine_during_the_training_only():
    seen = []
    fit(
        new_model(),
        RECIPE,
        DATA,
        epochs=1,
        engine=Engine(deterministic=True),
        progress=lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [True] * 5
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_checkpoint_may_move_to_another_device_but_not_silently(tmp_path, caplog):
    trainer = Trainer.start(new_model(), RECIPE, DATA, seed=7)
    states = generator_states(trainer.device)
    on_gpu = Position(1, [2.5], [states[0]], [torch.zeros(16, dtype=torch.uint8)])
    save(trainer.state, tmp_path, trainer.identity | {"device": "cuda", "threads": 8}, [], on_gpu)
    fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True)
    assert (
        "was written on 'cuda', and the training continues on cpu: from here on its numbers are not exactly"
        in caplog.text
    )


def test_weights_are_stored_with_channels_last():
    trainer = Trainer.start(new_model(), RECIPE, DATA)
    assert trainer.state.model.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_is_compiled_in_the_engine_s_mode(monkeypatch):
    compiled, marked = [], []

    def note(network, mode):
        compiled.append(mode)
        return network

    monkeypatch.setattr(torch, "compile", note)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(1))
    for mode in ("off", "default", "max-autotune-no-cudagraphs", "reduce-overhead"):
        fit(new_model(), RECIPE, DATA, seed=7, epochs=1, engine=Engine(compile=mode))
    assert compiled == ["default", "max-autotune-no-cudagraphs", "reduce-overhead"]
    assert len(marked) == 5  # graphs are told of every step


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_network_trains_the_same(mode):
    recipe = RECIPE.replace(dropout=0.0, stochastic_depth=0.0)
    plain = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1)
    compiled = fit(new_model(recipe), recipe, DATA, seed=7, epochs=1, engine=Engine(compile=mode))
    assert compiled.metrics[0].train_loss == pytest.approx(plain.metrics[0].train_loss, rel=1e-3)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5])
def test_a_seed_that_generators_do_not_take_is_refused_before_the_folder_is_touched(tmp_path, seed):
    recipe = Recipe("sgd", 0.1, epochs=1, batch_size=2)
    with pytest.raises(InputError, match=r"seed is .*; give a whole number from 0 to 18446744073709551615"):
        fit(new_model(recipe), recipe, DATA, seed=seed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
