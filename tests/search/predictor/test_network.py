"""The accuracy head of the paper: a network on the embedding and the recipe."""

import dataclasses

import pytest
import torch

from fbnetv3.search.predictor.encoder import new_encoder, pretrain
from fbnetv3.search.predictor.network import NetworkHead
from tests.search.predictor.examples import ARCH, PAPER, statistics, table

SMALL = dataclasses.replace(PAPER, pretrain_epochs=3, width=16, frozen_epochs=2, finetune_epochs=2)


def inputs(n, seed=0):
    """Columns of the architecture, columns of the recipe, and accuracies."""
    x, y = table(n, seed)
    return torch.from_numpy(x[:, ARCH]), torch.from_numpy(x[:, ~ARCH]), torch.from_numpy(y).float()


@pytest.fixture(scope="module")
def start():
    """A pretrained encoder."""
    x_arch, _, _ = inputs(200)
    return pretrain(x_arch, torch.from_numpy(statistics(x_arch.numpy())), SMALL, 0).encoder


def fitted(start=None, settings=SMALL, seed=0, n=20):
    return NetworkHead.fit(*inputs(n), start, settings, seed)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(("finetune_epochs", "moved"), [(0, False), (3, True)])
def test_the_pretrained_encoder_is_frozen_first_and_then_trained(start, finetune_epochs, moved):
    head = fitted(start, dataclasses.replace(SMALL, finetune_epochs=finetune_epochs))
    assert same(head.encoder, start) != moved
    assert torch.equal(head.encoder.state_dict()["1.running_mean"], start.state_dict()["1.running_mean"])


def test_the_given_encoder_is_left_alone(start):
    before = {key: value.clone() for key, value in start.state_dict().items()}
    fitted(start)
    assert all(torch.equal(before[key], value) for key, value in start.state_dict().items())


def test_a_new_encoder_is_never_frozen():
    torch.manual_seed(0)
    untrained = fitted(settings=dataclasses.replace(SMALL, frozen_epochs=0, finetune_epochs=0))
    trained = fitted(settings=dataclasses.replace(SMALL, frozen_epochs=2, finetune_epochs=0))
    assert not same(untrained.encoder, trained.encoder)


def test_a_fitted_head_is_frozen_and_in_eval_mode(start):
    head = fitted(start)
    assert not head.encoder.training
    assert not any(p.requires_grad for p in (*head.encoder.parameters(), *head.head.parameters()))


def test_the_same_seed_gives_the_same_bits():
    x_arch, x_recipe, _ = inputs(30, 1)
    first, again, other = (fitted(seed=seed).predict(x_arch, x_recipe) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    fitted()
    assert torch.equal(state, torch.get_rng_state())


def test_accuracies_are_centred_and_scaled_only_where_the_settings_say_so():
    _, _, y = inputs(20)
    points = fitted(settings=dataclasses.replace(SMALL, standardise=False))
    assert (points.centre.item(), points.scale.item()) == pytest.approx((y.mean().item(), 1.0))
    standard = fitted(settings=dataclasses.replace(SMALL, standardise=True))
    assert standard.scale.item() == pytest.approx(y.std(correction=0).item())


def test_a_prediction_is_the_output_scaled_and_moved():
    head = fitted()
    x_arch, x_recipe, _ = inputs(5, 1)
    output = head.head(torch.cat([head.encoder(x_arch), x_recipe], dim=1))[:, 0]
    moved = dataclasses.replace(head, centre=torch.tensor(10.0), scale=torch.tensor(3.0))
    assert torch.allclose(moved.predict(x_arch, x_recipe), output.double() * 3 + 10)


def test_equal_accuracies_do_not_divide_by_zero():
    x_arch, x_recipe, _ = inputs(5)
    settings = dataclasses.replace(SMALL, standardise=True)
    head = NetworkHead.fit(x_arch, x_recipe, torch.full((5,), 70.0), None, settings, 0)
    assert (head.predict(x_arch, x_recipe) - 70).abs().max() < 0.01


def test_a_restored_head_predicts_the_same_bits(start):
    head = fitted(start)
    tensors = {"other.centre": torch.zeros(())} | head.to_tensors("member0.")
    restored = NetworkHead.from_tensors(tensors, "member0.", (6, 3), SMALL)
    x_arch, x_recipe, _ = inputs(30, 1)
    assert torch.equal(restored.predict(x_arch, x_recipe), head.predict(x_arch, x_recipe))


def test_a_missing_tensor_is_a_key_error():
    tensors = fitted().to_tensors("m.")
    del tensors["m.scale"]
    with pytest.raises(KeyError, match="scale"):
        NetworkHead.from_tensors(tensors, "m.", (6, 3), SMALL)


def test_a_tensor_of_another_shape_is_a_runtime_error():
    with pytest.raises(RuntimeError, match="size mismatch"):
        NetworkHead.from_tensors(fitted().to_tensors("m."), "m.", (6, 4), SMALL)


def test_the_encoder_is_of_the_settings_size(start):
    assert [p.shape for p in fitted().encoder.parameters()] == [p.shape for p in new_encoder(6, SMALL).parameters()]
