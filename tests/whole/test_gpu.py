"""Trainings on CUDA, with one device or two."""

import gc
import logging
import math

import pytest
import torch

from fbnetv3.training.engine import Engine, machine_settings
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.trainer import DivergedError, Trainer
from tests.training.examples import DATA, PLAIN, RECIPE, freeze_norms, new_model, same
from tests.whole.compiler import needs_compiler
from tests.whole.training_worker import finish, result, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
two_devices = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
CARD = "cuda:0"
# Nothing that draws random numbers on the device, and an optimizer that does not divide by small numbers.
STEADY = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.05)


class StopError(Exception):
    pass


def stop_after(step):
    def progress(done, _total, _text):
        if done == step:
            raise StopError

    return progress


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-3), ("tf32", 1e-2), ("bf16", 0.05), ("fp16", 0.1)])
def test_an_epoch_is_nearly_that_of_the_cpu(precision, near):
    cpu = fit(new_model(STEADY), STEADY, DATA, seed=7, epochs=1)
    gpu = fit(new_model(STEADY), STEADY, DATA, seed=7, epochs=1, engine=Engine(CARD, precision))
    assert gpu.metrics[0].train_loss == pytest.approx(cpu.metrics[0].train_loss, rel=near)
    assert {(value.device.type, value.dtype) for value in gpu.model.state_dict().values()} <= {
        ("cuda", torch.float32),
        ("cuda", torch.int64),
    }


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf"])
def test_steps_are_nearly_those_of_the_cpu_with_everything_on(optimizer):
    recipe = STEADY.replace(optimizer=optimizer, lr=0.01, eps=0.1, distillation=0.5, clip_norm=1.0)
    losses = []
    for device in ("cpu", CARD):
        trainer = Trainer.start(new_model(recipe), recipe, DATA, engine=Engine(device), teacher=new_model(seed=9))
        sums = []
        with machine_settings(trainer.engine):
            trainer.train_epoch(0, None, lambda *report, sums=sums: sums.append(report[-1].fetch()))
        losses.append(sums)
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


def test_parts_of_a_batch_give_its_gradient():
    undivided = fit(freeze_norms(new_model(STEADY)), STEADY, DATA, seed=7, epochs=1, engine=Engine(CARD))
    in_parts = fit(freeze_norms(new_model(STEADY)), STEADY, DATA, seed=7, epochs=1, engine=Engine(CARD, accumulate=5))
    for a, b in zip(undivided.model.state_dict().values(), in_parts.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_activations_have_channels_last():
    seen = []
    model = new_model()
    model.stem.register_forward_hook(lambda _module, _args, output: seen.append(output))
    fit(model, RECIPE, DATA, seed=7, epochs=1, engine=Engine(CARD, "bf16"))
    training = [output for output in seen if output.dtype == torch.bfloat16]
    assert training
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in training)


def test_the_average_follows_the_weights_in_float32():
    trainer = Trainer.start(new_model(), RECIPE, DATA, seed=7, engine=Engine(CARD, "bf16"))
    weight, average = trainer.state.model.stem.conv.weight, trainer.state.ema.module.stem.conv.weight
    expected = []

    def after(_epoch, step, _losses):
        new = weight.detach().clone()
        expected.append(new if step == 1 else torch.lerp(expected[-1], new, 1 - RECIPE.ema_decay))
        torch.testing.assert_close(average, expected[-1])

    trainer.train_epoch(0, None, after)
    assert average.dtype == torch.float32
    assert trainer.state.ema.n_averaged == 5


@needs_compiler
def test_a_network_compiled_into_graphs_trains_the_same():
    plain = fit(new_model(STEADY), STEADY, DATA, seed=7, epochs=1, engine=Engine(CARD))
    compiled = fit(new_model(STEADY), STEADY, DATA, seed=7, epochs=1, engine=Engine(CARD, compile="reduce-overhead"))
    assert compiled.metrics[0].train_loss == pytest.approx(plain.metrics[0].train_loss, rel=1e-2)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_last_bit(tmp_path, precision):
    # Everything random is on, and the checkpoint is within an epoch: the generator of the GPU must continue where it was.
    recipe = RECIPE.replace(epochs=2)
    settings = {"seed": 7, "engine": Engine(CARD, precision, accumulate=2, checkpoint_steps=2, deterministic=True)}
    full = fit(new_model(recipe), recipe, DATA, **settings)
    with pytest.raises(StopError):
        fit(new_model(recipe), recipe, DATA, **settings, out=tmp_path, progress=stop_after(8))
    resumed = fit(new_model(recipe), recipe, DATA, **settings, out=tmp_path, resume=True)
    assert resumed.metrics == full.metrics
    assert same(resumed.model, full.model)


@pytest.mark.parametrize(("first", "second"), [("cpu", CARD), (CARD, "cpu")])
def test_a_training_may_move_to_another_device_within_an_epoch(tmp_path, caplog, first, second):
    with pytest.raises(StopError):
        fit(
            new_model(),
            RECIPE,
            DATA,
            seed=7,
            out=tmp_path,
            progress=stop_after(3),
            engine=Engine(first, checkpoint_steps=2),
        )
    with caplog.at_level(logging.WARNING):
        resumed = fit(new_model(), RECIPE, DATA, seed=7, out=tmp_path, resume=True, engine=Engine(second))
    assert "was written on" in caplog.text
    assert len(resumed.metrics) == 3
    assert all(math.isfinite(row.train_loss) for row in resumed.metrics)


def test_a_training_that_diverges_names_its_step():
    recipe = Recipe(optimizer="sgd", lr=1e30, epochs=1, batch_size=50)
    with pytest.raises(
        DivergedError, match=r"(the loss is (nan|inf) at step \d|weights are infinite or NaN after epoch 1)"
    ):
        fit(new_model(recipe), recipe, DATA, engine=Engine(CARD))


def test_settings_and_generators_are_restored():
    def settings():
        cudnn = torch.backends.cudnn
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    before, states = settings(), (torch.get_rng_state(), torch.cuda.get_rng_state(CARD))
    inside = []
    fit(
        new_model(),
        RECIPE,
        DATA,
        epochs=1,
        engine=Engine(CARD, "tf32"),
        progress=lambda *_: inside.append(settings()),
    )
    assert set(inside) == {(True, before[1], True, "high")}
    assert settings() == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.cuda.get_rng_state(CARD), states[1])


def test_a_finished_training_keeps_no_memory():
    def used():
        fit(new_model(), RECIPE, DATA, epochs=1, engine=Engine(CARD, "bf16"))
        gc.collect()
        return torch.cuda.memory_allocated(CARD)

    used()  # libraries keep their workspaces from the first training on
    assert abs(used() - used()) < 2**20


@two_devices
@pytest.mark.parametrize("sync_bn", [True, False])
def test_two_devices_equal_one_of_the_doubled_batch(tmp_path, sync_bn):
    options = {"device": "cuda", "freeze": not sync_bn, "recipe": PLAIN | {"epochs": 1, "sync_bn": sync_bn}}
    finish(start(tmp_path / "one", options))
    finish(start(tmp_path / "two", options, processes=2))
    one, two = result(tmp_path / "one"), result(tmp_path / "two")
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-3, atol=1e-4, msg=key)
