import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fbnetv3 import InputError
from fbnetv3.search.predictor import AccuracyPredictor, PredictorSettings, _standardise
from fbnetv3.training.loop import cpu_threads

ARCH = np.array([True] * 6 + [False] * 3)
WEIGHTS = np.array([3.0, -2, 1, 1, 0, 0, 2, -3, 1])


def table(n, seed, noise=0.1):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 9)).astype(np.float32)
    return x, 75 + x @ WEIGHTS + noise * rng.standard_normal(n)


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


def fitted(x, y, seed=0, **settings):
    predictor = AccuracyPredictor(ARCH, seed=seed, settings=PredictorSettings(**settings))
    predictor.fit(x, y)
    return predictor


def test_it_learns_a_table_and_speaks_in_percentage_points():
    x, y = table(60, 0)
    test_x, test_y = table(200, 1)
    mean, std = fitted(x, y).predict(test_x)
    assert mean.shape == std.shape == (200,)
    assert spearmanr(mean, test_y)[0] > 0.9
    assert np.abs(mean - test_y).mean() < 0.6
    assert (std > 0).all()


def test_the_same_seed_gives_the_same_bits_whatever_was_fitted_before():
    x, y = table(40, 0)
    first = fitted(x, y)
    second = fitted(*table(20, 5))
    torch.manual_seed(9)
    second.fit(x, y)
    assert np.array_equal(first.predict(x)[0], second.predict(x)[0])
    assert not np.array_equal(first.predict(x)[0], fitted(x, y, seed=1).predict(x)[0])


def test_pretraining_learns_the_statistics_and_is_what_fit_starts_from():
    x, y = table(40, 0)
    big = np.random.default_rng(3).random((1000, 6)).astype(np.float32)
    flops, params = 1e6 * (1 + big[:, 0] * big[:, 1]), 1e4 * (2 + big[:, 2])
    predictor = AccuracyPredictor(ARCH, seed=0, settings=PredictorSettings(pretrain_epochs=30))
    predictor.pretrain(big[:800], np.stack([flops, params], 1)[:800])
    predicted = predictor.predict_labels(big[800:])
    assert predicted.shape == (200, 2)
    assert spearmanr(predicted[:, 0], flops[800:])[0] > 0.95
    assert np.abs(predicted[:, 1] / params[800:] - 1).mean() < 0.02
    predictor.fit(x, y)
    once = predictor.predict(x)[0]
    assert not np.array_equal(once, fitted(x, y).predict(x)[0])
    predictor.fit(x, y)  # fit must not change the pretrained encoder
    assert np.array_equal(once, predictor.predict(x)[0])
    assert np.array_equal(predicted, predictor.predict_labels(big[800:]))


def test_recipe_columns_stay_out_of_pretraining():
    predictor = AccuracyPredictor(ARCH, seed=0)
    with pytest.raises(InputError, match=r"expected an array \[n >= 1, 6\], got shape \[5, 9\]"):
        predictor.pretrain(np.zeros((5, 9)), np.zeros((5, 2)))


def test_columns_by_index():
    x, y = table(20, 0)
    by_index = AccuracyPredictor([0, 1, 2, 3, 4, 5], seed=0, n_columns=9)
    by_index.fit(x, y)
    assert np.array_equal(by_index.predict(x)[0], fitted(x, y).predict(x)[0])
    with pytest.raises(InputError, match="give n_columns too"):
        AccuracyPredictor([0, 1], seed=0)


def test_a_few_failures_do_not_hide_the_order_of_the_rest():
    x, y = table(60, 0)
    y[:6] = 10.0
    test_x, test_y = table(200, 1)
    assert spearmanr(fitted(x, y).predict(test_x)[0], test_y)[0] > 0.75


def test_standardisation_by_hand():
    y = torch.tensor([[10.0], [70.0], [80.0], [82.0], [90.0]])  # median 80, 90th percentile 86.8
    scaled, (centre, distance) = _standardise(y)
    assert (centre, distance) == (80.0, pytest.approx(6.8, rel=1e-5))
    assert scaled.flatten().tolist() == pytest.approx([-2.0, -10 / 6.8, 0.0, 2 / 6.8, 10 / 6.8], rel=1e-5)


def test_bad_arrays_and_calls():
    x, y = table(10, 0)
    predictor = AccuracyPredictor(ARCH, seed=0)
    with pytest.raises(InputError, match="call fit first"):
        predictor.predict(x)
    with pytest.raises(InputError, match="call pretrain first"):
        predictor.predict_labels(x[:, :6])
    with pytest.raises(InputError, match="10 rows of x but 9 of y"):
        predictor.fit(x, y[:9])
    with pytest.raises(InputError, match="not finite"):
        predictor.fit(x, np.full(10, np.nan))
    with pytest.raises(InputError, match="at least one column"):
        AccuracyPredictor(np.zeros(4, bool), seed=0)
