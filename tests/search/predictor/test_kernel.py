"""The covariance of groups of columns, the warping of accuracies, and the layout of hyperparameters."""

import numpy as np
import pytest

from fbnetv3.search.predictor.kernel import PRIORS, Layout, Scale, covariance, variance


@pytest.mark.parametrize("widths", [[3], [3, 2]], ids=["one group", "two groups"])
def test_a_covariance_is_symmetric_and_positive_with_its_own_diagonal(widths):
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((8, width)) for width in widths]
    layout = Layout(widths)
    theta = layout.named(layout.mean)
    matrix = covariance(rows, rows, theta)
    assert np.allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9
    assert np.allclose(variance(rows, theta), matrix.diagonal())
    assert np.allclose(covariance([r[:2] for r in rows], rows, theta), matrix[:2])


def test_a_covariance_by_hand():
    """One column, and every hyperparameter's logarithm 0: 1 + the product + that of the squares + the smooth function."""
    zero = {key: np.zeros(()) for key in ("linear.0", "square.0", "smooth.0", "length.0")} | {"column.0": np.zeros(1)}
    found = covariance([np.array([[1.0]])], [np.array([[1.0], [3.0]])], zero)
    assert found[0].tolist() == pytest.approx([1 + 1 + 1 + 1, 1 + 3 + 9 + np.exp(-2.0)])


def test_every_hyperparameter_starts_at_the_mean_of_its_prior():
    layout = Layout([3, 2])
    theta = layout.named(layout.mean)
    assert set(theta) == {
        *("noise", "headroom", "joint"),
        *(f"{name}.{i}" for name in ("linear", "square", "smooth", "length", "column") for i in range(2)),
    }
    assert theta["column.0"].shape == (3,)
    assert all((value == PRIORS[key.split(".")[0]][0]).all() for key, value in theta.items())
    assert "joint" not in Layout([3]).places


def test_warping_by_hand():
    theta = {"headroom": np.array(0.0)}
    scale = Scale.of(np.array([76.0, 80.0]), theta)  # std 2, and the ceiling is one std above the best: 82
    assert scale.distance(np.array([70.0, 78.0])).tolist() == pytest.approx([6.0, 2.0])
    assert scale.accuracy(np.array([6.0, 2.0])).tolist() == pytest.approx([70.0, 78.0])
    assert scale.warped(np.array([76.0, 80.0])).tolist() == pytest.approx([-1.0, 1.0])  # standardised
