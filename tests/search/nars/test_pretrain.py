"""Stage 1: the encoder learns statistics of 80% of the pool and is checked on the rest."""

import numpy as np
import pytest

from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.pretrain import pretrained_predictor, proxy_statistics
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import arch_mask, encode
from tests.search.scripted import config


@pytest.fixture
def context(tmp_path):
    return Context.of(config(tmp_path, pool=50))


class Seen:
    """Remembers what a predictor is pretrained on."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(AccuracyPredictor, "pretrain", self.pretrain)
        self.calls = []

    def pretrain(self, x, labels):
        self.calls.append((x, labels))


def test_the_first_80_percent_of_the_pool_are_learnt(context, monkeypatch):
    seen = Seen(monkeypatch)
    pretrained_predictor(context)
    ((x, labels),) = seen.calls
    rows = context.pool()[:40]
    assert np.array_equal(x, encode(context.space, rows)[:, arch_mask(context.space)])
    assert np.array_equal(labels, context.space.statistics(rows)[1])


def test_without_rich_labels_only_flops_and_params_are_learnt(context, monkeypatch):
    seen = Seen(monkeypatch)
    pretrained_predictor(Context.of(context.config.replace(predictor={"rich_labels": False})))
    costs = context.space.cost(context.pool()[:40])
    assert np.array_equal(seen.calls[0][1], np.stack([costs.flops(), costs.params()], axis=1))


def test_without_pretraining_nothing_is_learnt(context, monkeypatch):
    seen = Seen(monkeypatch)
    predictor = pretrained_predictor(Context.of(context.config.replace(predictor={"pretrain": False})))
    assert seen.calls == []
    assert predictor.settings.pretrain is False


def test_the_seed_of_the_search_is_that_of_the_predictor(context):
    assert pretrained_predictor(Context.of(context.config.replace(seed=3))).seed == 3


def test_statistics_are_predicted_for_the_rest_of_the_pool(context):
    flops, params = proxy_statistics(context, pretrained_predictor(context))
    costs = context.space.cost(context.pool()[40:])
    assert flops.exact == tuple(costs.flops().tolist())
    assert params.exact == tuple(costs.params().tolist())
    assert len(flops.predicted) == len(params.predicted) == 10


def test_without_pretraining_there_are_no_predicted_statistics(context):
    context = Context.of(context.config.replace(predictor={"pretrain": False}))
    assert proxy_statistics(context, pretrained_predictor(context)) == ()
