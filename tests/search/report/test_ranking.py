"""The best candidates, by what was measured and by what a predictor believes."""

import dataclasses

import numpy as np
import pytest

from fbnetv3.search.nars.context import Context
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.report import posterior, ranking
from fbnetv3.search.report.ranking import Belief, differing, rank
from tests.search.made_up import diverged, failed, make_config, make_trials, repeats
from tests.search.report.known import NAMES, Known, column

CONFIG = make_config()


@pytest.fixture
def trials(space):
    """Three rounds, after 2 epochs with 61, 60, 64, 63 and 65% each; index 4 of round 2 has 66%."""
    trials = make_trials(CONFIG, space, 3)
    trials[9] = dataclasses.replace(trials[9], acc1=[50.0, 66.0])
    return trials


def test_without_a_predictor_the_highest_measurement_is_first(trials, space):
    found = rank(Context.of(CONFIG), trials, 2, predict=False)
    assert [row.trial for row in found.rows[:3]] == ["2.4", "1.4", "3.4"]
    assert [row.acc1 for row in found.rows[:3]] == [66.0, 65.0, 65.0]  # after 2 epochs, not after 3
    assert len(found.rows) == 15
    assert found.rows[0].values == space.values(trials[9].candidate)
    assert found.rows[0].seconds == 6.0
    assert {row.belief for row in found.rows} == {None}


def test_trainings_of_one_candidate_are_one_row(trials):
    again = [
        dataclasses.replace(t, acc1=[50.0, acc1]) for t, acc1 in zip(repeats(trials, 0, 0), (63.0, 62.0), strict=True)
    ]
    found = rank(Context.of(CONFIG), [*again, *trials], 2, predict=False)
    by_trial = {row.trial: row for row in found.rows}
    assert by_trial["1.0, 0.0"].acc1 == 62.0  # 61 and 63
    assert by_trial["1.0, 0.0"].seconds == 12.0
    assert by_trial["1.1, 0.1"].acc1 == 61.0
    assert len(found.rows) == 15


def test_trainings_that_cannot_be_compared_are_left_out(trials):
    trials[0], trials[1] = diverged(trials[0]), failed(trials[1], "OSError")
    trials[9] = dataclasses.replace(trials[9], stopped=True)
    found = rank(Context.of(CONFIG), trials, 2, predict=False)
    assert not {"1.0", "1.1", "2.4"} & {row.trial for row in found.rows}
    assert len(found.rows) == 12


def known(monkeypatch, **settings):
    """A predictor that knows: the accuracy is 60% plus 20 points of mixup, and what a draw adds to all of them."""
    it = Known(lambda rows, offset: 60 + offset + 20 * column(rows, "mixup"), **settings)
    monkeypatch.setattr(ranking.Posterior, "of", lambda context, trials, epochs: it)


def test_the_predictor_decides_the_order(trials, monkeypatch):
    known(monkeypatch, offsets=(0.0, 1.0), noise=0.5)
    found = rank(Context.of(CONFIG), trials, 2)
    mixup = np.array([t.candidate for t in trials])[:, NAMES.index("mixup")]
    top = 60 + 20 * mixup.max() / (dict(zip(NAMES, Context.of(CONFIG).space.sizes, strict=True))["mixup"] - 1)
    first = found.rows[0].belief
    assert first == Belief(
        pytest.approx(top + 0.5), pytest.approx(top), pytest.approx(top + 1), 1.0, pytest.approx(0.5, abs=0.15)
    )
    means = [row.belief.mean for row in found.rows]
    assert means == sorted(means, reverse=True)
    assert sum(row.belief.best for row in found.rows) == pytest.approx(1)


def test_two_candidates_are_not_worth_a_predictor(trials):
    assert {row.belief for row in rank(Context.of(CONFIG), trials[:2], 2).rows} == {None}
    assert rank(Context.of(CONFIG), [], 2).rows == ()


def test_a_fitted_predictor_pulls_a_lucky_measurement_down(trials, monkeypatch):
    """Second trainings differ from the first ones by 4 points, so 70% of one training is luck in part."""
    monkeypatch.setattr(posterior, "SETTINGS", PredictorSettings(pretrain=False, members=2))
    monkeypatch.setattr(posterior, "POOL", 64)
    again = [
        dataclasses.replace(t, acc1=[50.0, t.acc1[1] + 4 - 8 * (t.index % 2)]) for t in repeats(trials, *[0.0] * 5)
    ]
    trials[9] = dataclasses.replace(trials[9], acc1=[50.0, 70.0])
    found = rank(Context.of(CONFIG), [*again, *trials], 2)
    lucky = next(row for row in found.rows if row.trial == "2.4")
    assert lucky.belief.low < lucky.belief.mean < 69.5
    assert 0.5 < lucky.belief.noise < 5


def test_plain_data_has_everything(trials, monkeypatch):
    known(monkeypatch)
    (row,) = rank(Context.of(CONFIG), trials, 2).to_dicts(1)
    assert set(row) == {
        *(
            "trial",
            "measured",
            "epochs",
            "trainings",
            "mean",
            "low",
            "high",
            "best",
            "noise",
            "flops",
            "params",
            "seconds",
        ),
        "values",
    }
    assert "mean" not in rank(Context.of(CONFIG), trials, 2, predict=False).to_dicts(1)[0]


def test_coordinates_with_one_value_are_not_shown(trials):
    rows = rank(Context.of(CONFIG), trials, 2, predict=False).rows
    same = [dataclasses.replace(row, values=row.values | {"lr": 0.1}) for row in rows[:3]]
    assert "lr" not in differing(same, ["lr", "mixup"])
    assert differing(rows, ["lr"]) == ["lr"]
    assert differing(rows[:1], NAMES) == []
