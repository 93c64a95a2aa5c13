"""Pretraining of the encoder: statistics are learnt, whatever their units, and the result depends on the seed alone."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fbnetv3 import InputError
from fbnetv3.search.predictor.encoder import Proxy, new_encoder, pretrain
from tests.search.predictor.examples import PAPER, QUICK, statistics

TINY = dataclasses.replace(QUICK, pretrain_epochs=3, width=8, layers=2)


def rows(n, seed=3):
    """Encoded architectures [n, 6]."""
    return torch.from_numpy(np.random.default_rng(seed).random((n, 6)).astype(np.float32))


def labels(x):
    return torch.from_numpy(statistics(x.numpy())).double()


@pytest.fixture(scope="module")
def proxy():
    """Pretrained for a few epochs."""
    return pretrain(rows(300), labels(rows(300)), TINY, 0)


def test_an_encoder_has_linear_norm_and_activation_in_every_layer():
    layers = list(new_encoder(6, TINY))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.SiLU] * 2
    assert [(layer.in_features, layer.out_features) for layer in layers[::3]] == [(6, 8), (8, 8)]


def test_unseen_statistics_are_predicted():
    proxy = pretrain(rows(2000), labels(rows(2000)), QUICK, 0)
    new = rows(500, 4)
    predicted, exact = proxy.labels(new), labels(new)
    assert predicted.shape == (500, 2)
    assert predicted.dtype == torch.float64
    assert (((predicted - exact) ** 2).mean(0) / exact.var(0) < 0.02).all()


def test_targets_are_standardised_statistics_and_their_logarithms(proxy):
    x = rows(300)
    assert proxy.logs.tolist() == [0, 1]
    exact = torch.cat([labels(x), labels(x).log()], dim=1)
    assert torch.allclose(proxy.mean, exact.mean(0))
    assert torch.allclose(proxy.std, exact.std(0))
    assert proxy.targets(x).shape == (300, 4)
    assert torch.equal(proxy.labels(x), proxy.targets(x)[:, :2].double() * proxy.std[:2] + proxy.mean[:2])


def test_only_statistics_that_are_positive_and_vary_have_logarithms():
    x = rows(50)
    mixed = torch.stack([torch.full((50,), 7.0), torch.zeros(50), x[:, 0] - 0.5, 1.0 + x[:, 1]], dim=1)
    assert pretrain(x, mixed, TINY, 0).logs.tolist() == [3]


def test_without_logarithms_the_statistics_are_the_targets():
    proxy = pretrain(rows(50), labels(rows(50)), dataclasses.replace(TINY, log_labels=False), 0)
    assert proxy.logs.tolist() == []
    assert proxy.targets(rows(5)).shape == (5, 2)


def test_a_constant_statistic_is_predicted_as_that_constant():
    proxy = pretrain(rows(300), torch.cat([torch.full((300, 1), 7.0).double(), labels(rows(300))], dim=1), QUICK, 0)
    assert (proxy.labels(rows(100, 5))[:, 0] - 7.0).abs().max() < 0.5


def test_pretraining_depends_on_its_seed_alone():
    found = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        found.append(pretrain(rows(300), labels(rows(300)), PAPER, seed).labels(rows(50)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_pretraining_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    pretrain(rows(20), labels(rows(20)), TINY, 0)
    assert torch.equal(state, torch.get_rng_state())


def test_a_pretrained_encoder_is_frozen_and_in_eval_mode(proxy):
    assert not proxy.encoder.training
    assert not any(p.requires_grad for p in (*proxy.encoder.parameters(), *proxy.head.parameters()))


@pytest.mark.parametrize("n", [2, 257])
def test_a_batch_of_one_row_never_occurs(n):
    # 257 rows are one batch of 256 and a single row, with which batch norm could not be trained.
    assert torch.isfinite(pretrain(rows(n), labels(rows(n)), TINY, 0).labels(rows(5))).all()


def test_one_row_cannot_be_pretrained_on():
    with pytest.raises(InputError, match="pretrain needs at least 2 rows, better 1,000 or more"):
        pretrain(rows(1), labels(rows(1)), TINY, 0)


def test_a_rate_that_is_too_high_is_named():
    with pytest.raises(InputError, match=r"pretraining diverged; try a pretrain_lr below 1e\+30"):
        pretrain(rows(300), labels(rows(300)), dataclasses.replace(TINY, pretrain_lr=1e30), 0)


def test_a_restored_proxy_predicts_the_same_bits(proxy):
    restored = Proxy.from_tensors(proxy.to_tensors(), 6, TINY)
    assert torch.equal(restored.targets(rows(50)), proxy.targets(rows(50)))
    assert torch.equal(restored.labels(rows(50)), proxy.labels(rows(50)))


def test_a_missing_tensor_is_a_key_error(proxy):
    tensors = proxy.to_tensors()
    del tensors["proxy.std"]
    with pytest.raises(KeyError, match=r"proxy\.std"):
        Proxy.from_tensors(tensors, 6, TINY)


def test_a_tensor_of_another_shape_is_a_runtime_error(proxy):
    with pytest.raises(RuntimeError, match="size mismatch"):
        Proxy.from_tensors(proxy.to_tensors(), 7, TINY)
