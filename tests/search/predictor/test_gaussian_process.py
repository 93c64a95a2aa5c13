"""Gaussian processes: their predictions and joint draws, and which statistics they use."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fbnetv3.search.predictor import gaussian_process
from fbnetv3.search.predictor.evidence import maximum
from fbnetv3.search.predictor.gaussian_process import Data, GaussianProcess, GaussianProcessHead, _without_failures
from fbnetv3.search.predictor.kernel import covariance, noise
from tests.search.predictor.examples import table


def inputs(n, seed=0):
    """Columns and accuracies of made-up candidates."""
    x, y = table(n, seed)
    return x.astype(float), y.astype(float)


@pytest.fixture(scope="module")
def process():
    """A process that was fitted to 20 candidates."""
    x, y = inputs(20)
    return GaussianProcess.fit([x], y)


def test_a_process_is_sure_at_its_rows_and_unsure_far_away():
    x = np.linspace(0, 1, 12)[:, None]
    y = 75 + 3 * np.sin(6 * x[:, 0])
    process = GaussianProcess.fit([x], y)
    near, far = (process.predict([rows])[1].mean() for rows in (x, x + 3))
    assert near < 0.1
    assert far > 5 * near
    assert np.abs(process.predict([x])[0] - y).max() < 0.3


def test_predictions_do_not_depend_on_the_size_of_pieces(process, monkeypatch):
    x, _ = inputs(25, 1)
    at_once = process.predict([x])
    monkeypatch.setattr(gaussian_process, "CHUNK", 10)
    for one, other in zip(at_once, process.predict([x]), strict=True):
        assert np.allclose(one, other, rtol=1e-10)


def test_groups_that_a_process_was_not_fitted_to_are_ignored(process):
    x, _ = inputs(5, 1)
    assert np.array_equal(process.predict([x, np.ones((5, 2))])[0], process.predict([x])[0])


def test_left_out_predictions_are_those_of_the_other_rows(process):
    """The closed form equals a solution without the row, for the same hyperparameters and scales."""
    x, y = inputs(20)
    rows = [(x - process.centre[0]) / process.scale[0]]
    warped = process.labels.warped(y)
    matrix = covariance(rows, rows, process.theta) + noise(process.theta) * np.eye(20)
    for i in (0, 7, 19):
        others = np.arange(20) != i
        mean = matrix[i, others] @ np.linalg.solve(matrix[others][:, others], warped[others])
        distance = np.exp(-(mean * process.labels.spread + process.labels.shift))
        assert process.left_out()[i] == pytest.approx(float(process.labels.accuracy(distance)), rel=1e-6)


def test_draws_have_the_mean_and_the_variance_that_are_predicted(process):
    x, _ = inputs(6, 1)
    mean, variance = process.predict([x])
    drawn = process.draw([x], 40_000, np.random.default_rng(0), noisy=False)
    assert drawn.mean(0) == pytest.approx(mean, abs=4 * np.sqrt(variance.max() / 40_000))
    assert drawn.var(0) == pytest.approx(variance, rel=0.15)


def test_noisy_draws_have_the_noise_of_a_training_too(process):
    x, _ = inputs(6, 1)
    quiet, noisy = (process.draw([x], 40_000, np.random.default_rng(0), noisy=noisy) for noisy in (False, True))
    assert (noisy.std(0) > quiet.std(0)).all()
    assert noisy.mean(0) == pytest.approx(quiet.mean(0), abs=0.1)


def test_draws_of_equal_rows_are_equal(process):
    x, _ = inputs(3, 1)
    drawn = process.draw([x[[0, 1, 0, 2]]], 50, np.random.default_rng(0), noisy=False)
    assert drawn[:, 0] == pytest.approx(drawn[:, 2], abs=1e-2)
    assert np.abs(drawn[:, 0] - drawn[:, 1]).max() > 0.1


def test_no_prediction_is_far_below_the_worst_label(process):
    _, y = inputs(20)
    lowest = y.min() - y.std()
    far = np.full((1, 9), 30.0)
    assert process.predict([far])[0][0] >= lowest - process.labels.unit
    assert process.draw([far], 1000, np.random.default_rng(0), noisy=True).min() >= lowest - 1e-9


def test_a_known_variance_makes_a_label_count_less():
    x, y = inputs(20)
    wrong = y.copy()
    wrong[0] += 10.0
    posterior = Data.of([x], wrong).posterior()
    theta = posterior.theta(maximum(posterior)[0])
    sure, unsure = (
        Data.of([x], wrong, known).process(theta).predict([x[:1]])[0][0]
        for known in (np.zeros(20), np.r_[100.0, np.zeros(19)])
    )
    assert abs(unsure - y[0]) < 0.8 * abs(sure - y[0])


def test_a_constant_column_and_equal_labels_are_no_problem():
    x, _ = inputs(10)
    process = GaussianProcess.fit([np.ones((10, 3))], np.full(10, 70.0))
    mean, variance = process.predict([x[:, :3]])
    assert mean == pytest.approx(np.full(10, 70.0), abs=1e-3)
    assert np.isfinite(variance).all()
    assert np.isfinite(process.draw([x[:, :3]], 5, np.random.default_rng(0), noisy=True)).all()


def test_of_many_rows_a_part_chooses_the_hyperparameters(monkeypatch):
    monkeypatch.setattr(gaussian_process, "MAX_SEARCH_ROWS", 30)
    posterior = Data.of([inputs(60)[0]], inputs(60)[1]).posterior()
    assert posterior.rows[0].shape == (30, 9)
    assert set(posterior.y) < set(inputs(60)[1])


def test_all_rows_of_many_are_used_for_predictions(monkeypatch):
    monkeypatch.setattr(gaussian_process, "MAX_SEARCH_ROWS", 30)
    x, y = inputs(60)
    process = GaussianProcess.fit([x], y)
    new, labels = inputs(200, 1)
    assert process.rows[0].shape == (60, 9)
    assert spearmanr(process.predict([new])[0], labels)[0] > 0.9


def test_members_differ_and_depend_on_the_seed():
    x, y = inputs(20)
    first, again, other = (GaussianProcessHead.fit_members([x], y, 2, seed) for seed in (0, 0, 1))
    means = [[head.predict([x])[0] for head in heads] for heads in (first, again, other)]
    assert len(first) == 2
    assert not np.array_equal(means[0][0], means[0][1])
    assert np.array_equal(means[0][1], means[1][1])
    assert not np.array_equal(means[0][1], means[2][1])


def test_a_single_member_has_the_most_likely_hyperparameters():
    x, y = inputs(20)
    (head,) = GaussianProcessHead.fit_members([x], y, 1, 0)
    assert np.array_equal(head.predict([x])[0], GaussianProcess.fit([x], y).predict([x])[0])


def test_shares_are_those_of_the_evidence():
    x, y = inputs(20)
    useful = y[:, None] - y.mean()  # a statistic that tells all
    (head,) = GaussianProcessHead.fit_members([x, useful], y, 1, 0)
    assert head.shares.sum() == pytest.approx(1.0)
    assert len(head.processes[0].rows) == 2
    assert head.shares[0] > 0.9


def test_a_useless_statistic_gets_a_small_share():
    x, y = inputs(30)
    useless = np.random.default_rng(0).standard_normal((30, 3))
    (head,) = GaussianProcessHead.fit_members([x, useless], y, 1, 0)
    assert head.shares[-1] > 0.5
    assert len(head.processes[-1].rows) == 1


def test_the_variance_of_a_mixture_by_hand(process):
    x, _ = inputs(4, 1)
    lower = dataclasses.replace(process, labels=process.labels._replace(best=process.labels.best - 2.0))
    head = GaussianProcessHead([process, lower], np.array([0.25, 0.75]))
    mean, variance = process.predict([x])
    # Two equal processes two points apart: the mean is 0.75 * 2 lower, and 0.25 * 0.75 * 2**2 is added to the variance.
    assert np.allclose(head.predict([x])[0], mean - 1.5)
    assert np.allclose(head.predict([x])[1], variance + 0.75)


def test_failures_that_cannot_be_predicted_are_raised():
    """Nearly always: four failures may happen to look predictable."""
    lowest = []
    for seed in range(5):
        x, y = inputs(40, seed)
        y[::10] = 10.0
        raised = _without_failures([x], y)
        lowest.append(raised.min())
        assert np.array_equal(raised[y > 10], y[y > 10])
    assert sum(low > 60 for low in lowest) >= 4


def test_failures_that_can_be_predicted_stay():
    x, y = inputs(60)
    y[x[:, 6] > 0.85] = 10.0
    assert 0 < (y == 10).sum() < 20
    assert np.array_equal(_without_failures([x], y), y)


def test_labels_without_failures_stay():
    x, y = inputs(20)
    assert np.array_equal(_without_failures([x], y), y)
    equal = np.full(20, 70.0)
    assert np.array_equal(_without_failures([x], equal), equal)


def test_a_restored_head_predicts_the_same_bits():
    x, y = inputs(20)
    (head,) = GaussianProcessHead.fit_members([x, x[:, :2]], y, 1, 0)
    restored = GaussianProcessHead.from_tensors(
        {"other": torch.from_numpy(y)} | head.to_tensors("member0."), "member0."
    )
    for one, other in zip(head.predict([x, x[:, :2]]), restored.predict([x, x[:, :2]]), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(head.processes[0].left_out(), restored.processes[0].left_out())


def test_a_missing_tensor_is_a_key_error(process):
    tensors = process.to_tensors("p.")
    del tensors["p.weights"]
    with pytest.raises(KeyError, match="weights"):
        GaussianProcess.from_tensors(tensors, "p.")


def test_an_optimum_inside_is_found_from_few_labels():
    """One column has an optimum, one is linear, and 14 have no effect. Without squares, the mean correlation is 0.48."""
    correlations = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.random((300, 16))
        y = 80 - 40 * (x[:, 0] - 0.5) ** 2 - 6 * x[:, 1]
        process = GaussianProcess.fit([x[:20]], y[:20] + 0.3 * rng.standard_normal(20))
        correlations.append(spearmanr(process.predict([x[20:]])[0], y[20:])[0])
    assert min(correlations) > 0.95
