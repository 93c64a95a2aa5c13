"""What stage 2 trains next: new and feasible candidates that are better than random ones."""

import numpy as np
import pytest

from fbnetv3.errors import InputError
from fbnetv3.search.nars import propose as proposing
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.propose import fresh, propose
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.encoding import arch_mask, encode
from tests.search.scripted import config


def truth(rows):
    """A smooth accuracy of index rows: best where every index is 0."""
    return 80.0 - rows.sum(axis=1)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A context, and a predictor that was fitted to twelve candidates of its pool."""
    context = Context.of(config(tmp_path_factory.mktemp("config"), pool=256))
    predictor = AccuracyPredictor(arch_mask(context.space), seed=0)
    known = context.pool()[:12]
    predictor.fit(encode(context.space, known), truth(known))
    return context, predictor, known


@pytest.mark.parametrize("n", [1, 4, 48])
def test_candidates_are_new_different_and_feasible(setting, n):
    context, predictor, known = setting
    rows = propose(context, predictor, known, known[:0], n)
    assert rows.shape == (n, known.shape[1])
    assert len(fresh(context.space, known, rows)) == n
    assert context.constraints.satisfied(rows).all()


def test_they_are_better_than_the_pool_and_go_beyond_it(setting):
    context, predictor, known = setting
    rows = propose(context, predictor, known, known[:0], 4)
    assert truth(rows).mean() > np.quantile(truth(context.pool()), 0.9)
    assert len(fresh(context.space, context.pool(), rows)) > 0


def test_of_a_predictor_without_doubts_they_have_the_highest_predictions(setting, monkeypatch):
    """Its members agree, so most candidates cannot improve on the best trial."""
    monkeypatch.setattr(proposing, "SCREENED", 40)
    monkeypatch.setattr(proposing, "DRAWN", 20)
    context, _, known = setting
    sure = AccuracyPredictor(arch_mask(context.space), seed=0, settings=PredictorSettings.preset("paper"))
    sure.fit(encode(context.space, known), truth(known))
    pool = context.pool()[12:]
    worse = pool[sure.predict(encode(context.space, pool))[0] < sure.predict(encode(context.space, known))[0].max()]
    alone = Context.of(context.config.replace(beyond_pool=False))
    alone.__dict__["_pool"] = worse
    rows = propose(alone, sure, known, known[:0], 3)
    means = sure.predict(encode(context.space, worse))[0]
    assert rows.tolist() == worse[np.argsort(-means, kind="stable")[:3]].tolist()


def test_without_the_evolution_they_are_of_the_pool(setting):
    context, predictor, known = setting
    alone = Context.of(context.config.replace(beyond_pool=False))
    rows = propose(alone, predictor, known, known[:0], 4)
    assert not len(fresh(context.space, context.pool(), rows))
    assert len(fresh(context.space, known, rows)) == 4


def test_the_same_arguments_give_the_same_rows(setting):
    context, predictor, known = setting
    first, again = (propose(context, predictor, known, known[:0], 3) for _ in range(2))
    assert np.array_equal(first, again)


def test_candidates_in_training_are_not_proposed_again_and_their_neighbours_less(setting):
    context, predictor, known = setting
    first = propose(context, predictor, known, known[:0], 2)
    second = propose(context, predictor, known, first, 2)
    assert len(fresh(context.space, first, second)) == 2


def test_the_paper_takes_the_highest_predictions_of_the_pool(setting):
    context, predictor, known = setting
    paper = Context.of(context.config.replace(acquisition="mean"))
    rows = propose(paper, predictor, known, known[:0], 3)
    members = predictor.predict_members(encode(context.space, paper.pool()))
    members[:, :12] = -np.inf
    assert rows[0].tolist() == paper.pool()[members[0].argmax()].tolist()
    assert not len(fresh(context.space, paper.pool(), rows))


def test_too_few_candidates_are_refused(setting):
    context, predictor, known = setting
    with pytest.raises(InputError, match="a batch needs 9999"):
        propose(context, predictor, known, known[:0], 9999)


def test_fresh_rows_by_hand(setting):
    space = setting[0].space
    row = setting[2][0]
    other = row.copy()
    other[0] = 1 - min(other[0], 1)
    assert fresh(space, row[None], np.stack([row, other, other])).tolist() == [1]
