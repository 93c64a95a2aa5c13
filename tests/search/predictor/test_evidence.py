"""The posterior of the hyperparameters: its value, its gradient, its maximum and draws from it."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fbnetv3.search.predictor.evidence import REACH, Posterior, draws, maximum
from fbnetv3.search.predictor.kernel import JITTER, Scale, covariance
from tests.search.predictor.examples import table


def posterior(n=15, groups=2, known=None, seed=0):
    """A posterior of made-up candidates, with one or two groups of columns."""
    x, y = table(n, seed)
    rows = [x.astype(float), x[:, :2].astype(float)][:groups]
    return Posterior(rows, y.astype(float), known)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("known", [None, np.linspace(0.0, 4.0, 15)], ids=["no known variance", "known variances"])
def test_the_gradient_is_the_derivative(groups, known):
    found = posterior(groups=groups, known=known)
    z = 0.3 * np.random.default_rng(1).standard_normal(len(found.layout.mean))
    slope = found(z)[1]
    steps = 1e-5 * np.eye(len(z))
    differences = [(found(z + step)[0] - found(z - step)[0]) / 2e-5 for step in steps]
    assert slope == pytest.approx(np.array(differences), abs=1e-5)


@pytest.mark.parametrize("variance", [0.0, 2.0])
def test_the_value_is_that_of_a_normal_distribution_of_the_warped_labels(variance):
    """-log of the density of the labels: that of the warped ones, times the slope of the warping; and of the prior."""
    found = posterior(known=np.full(15, variance))
    z = 0.3 * np.random.default_rng(1).standard_normal(len(found.layout.mean))
    theta = found.theta(z)
    scale = Scale.of(found.y, theta)
    slopes = 1.0 / (scale.unit * scale.distance(found.y) * scale.spread)
    matrix = covariance(found.rows, found.rows, theta)
    matrix += np.diag(np.exp(theta["noise"]) + JITTER + variance * slopes**2)
    density = multivariate_normal(np.zeros(15), matrix).logpdf(scale.warped(found.y)) + np.log(slopes).sum()
    expected = -density - 15 / 2 * np.log(2 * np.pi) + 0.5 * z @ z
    assert found(z)[0] == pytest.approx(expected)


def test_the_maximum_has_no_slope_and_is_higher_than_its_surroundings():
    found = posterior()
    z, value = maximum(found)
    inside = np.abs(z) < REACH - 1e-6
    assert np.abs(found(z)[1][inside]).max() < 0.5
    rng = np.random.default_rng(0)
    assert all(-found(z + 0.3 * rng.standard_normal(len(z)))[0] < value for _ in range(20))


def test_draws_have_the_mean_and_spread_of_a_known_posterior(monkeypatch):
    """A standard normal distribution instead of a posterior of hyperparameters."""
    monkeypatch.setattr("fbnetv3.search.predictor.evidence.TRANSITIONS", 1500)
    found = posterior(groups=1)
    found._evidence = lambda z: (0.0, np.zeros_like(z))
    points = np.array(draws(found, np.zeros(len(found.layout.mean)), 700, np.random.default_rng(0)))
    assert np.abs(points.mean(0)).max() < 0.25
    assert points.std(0) == pytest.approx(np.ones(points.shape[1]), abs=0.2)


def test_draws_depend_on_the_generator_alone():
    found = posterior()
    z, value = maximum(found)
    first, again, other = (draws(found, z, 3, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[-1])
    assert max(-found(point)[0] for point in first) <= value + 1e-6
    assert np.abs(first).max() <= REACH
