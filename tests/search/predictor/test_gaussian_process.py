"""Gaussian processes: their evidence, warping and predictions, and which statistics they use."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fbnetv3.search.predictor import gaussian_process
from fbnetv3.search.predictor.gaussian_process import (
    PRIORS,
    GaussianProcess,
    GaussianProcessHead,
    _covariance,
    _Evidence,
    _maximise_evidence,
    _noise,
    _prior_means,
    _variance,
    _warp,
    _without_failures,
)
from tests.search.predictor.examples import table


def inputs(n, seed=0):
    """Columns and accuracies of made-up candidates, as tensors."""
    x, y = table(n, seed)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.fixture(scope="module")
def process():
    """A process that was fitted to 20 candidates."""
    x, y = inputs(20)
    return GaussianProcess.fit([x], y)


def positive(a):
    return a @ a.T + torch.eye(len(a), dtype=torch.float64)


def test_the_gradient_of_the_evidence_is_its_derivative():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(5, 5, generator=rng, dtype=torch.float64)
    y = torch.randn(5, generator=rng, dtype=torch.float64, requires_grad=True)
    # Only symmetric changes of a covariance give a covariance.
    assert torch.autograd.gradcheck(lambda a, y: _Evidence.apply(positive(a), y), (a.requires_grad_(), y))


def test_the_evidence_is_the_density_of_a_normal_distribution():
    rng = torch.Generator().manual_seed(0)
    covariance = positive(torch.randn(5, 5, generator=rng, dtype=torch.float64))
    y = torch.randn(5, generator=rng, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance)
    constant = 2.5 * np.log(2 * np.pi)
    assert _Evidence.apply(covariance, y).item() == pytest.approx(-normal.log_prob(y).item() - constant)


def test_warping_by_hand_and_its_jacobian():
    y = torch.tensor([70.0, 78.0, 80.0], dtype=torch.float64, requires_grad=True)
    theta = {"headroom": torch.tensor(0.0, dtype=torch.float64)}
    warped, jacobian = _warp(y, torch.tensor(80.0), torch.tensor(2.0), theta)
    assert warped.tolist() == pytest.approx([-np.log(6), -np.log(2), 0.0])
    slopes = torch.autograd.grad(warped.sum(), y)[0]
    assert jacobian.item() == pytest.approx(slopes.log().sum().item())


@pytest.mark.parametrize("widths", [[3], [3, 2]], ids=["one group", "two groups"])
def test_a_covariance_is_symmetric_and_positive_with_its_own_diagonal(widths):
    rng = torch.Generator().manual_seed(0)
    rows = [torch.randn(8, width, generator=rng, dtype=torch.float64) for width in widths]
    theta = _prior_means(widths)
    covariance = _covariance(rows, rows, theta)
    assert torch.allclose(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-9
    assert torch.allclose(_variance(rows, theta), covariance.diagonal())


def test_every_hyperparameter_starts_at_the_mean_of_its_prior():
    theta = _prior_means([3, 2])
    assert set(theta) == {
        *("noise", "headroom", "joint"),
        *(f"{name}.{i}" for name in ("linear", "smooth", "length", "column") for i in range(2)),
    }
    assert theta["column.0"].shape == (3,)
    assert all((value == PRIORS[key.split(".")[0]][0]).all() for key, value in theta.items())
    assert "joint" not in _prior_means([3])


def test_a_process_is_sure_at_its_rows_and_unsure_far_away():
    x = torch.linspace(0, 1, 12)[:, None]
    y = 75 + 3 * torch.sin(6 * x[:, 0])
    process = GaussianProcess.fit([x], y)
    near, far = (process.predict([rows])[1].mean().item() for rows in (x, x + 3))
    assert near < 0.1
    assert far > 5 * near
    assert (process.predict([x])[0] - y).abs().max() < 0.3


def test_predictions_do_not_depend_on_the_size_of_pieces(process, monkeypatch):
    x, _ = inputs(25, 1)
    at_once = process.predict([x])
    monkeypatch.setattr(gaussian_process, "CHUNK", 10)
    for one, other in zip(at_once, process.predict([x]), strict=True):
        assert torch.allclose(one, other, rtol=1e-10)


def test_groups_that_a_process_was_not_fitted_to_are_ignored(process):
    x, _ = inputs(5, 1)
    assert torch.equal(process.predict([x, torch.ones(5, 2)])[0], process.predict([x])[0])


def test_left_out_predictions_are_those_of_the_other_rows(process):
    """The closed form equals a solution without the row, for the same hyperparameters and scales."""
    x, y = inputs(20)
    rows = [(x.double() - process.centre[0]) / process.scale[0]]
    best, unit, shift, spread, _ = process.labels
    warped = (_warp(y.double(), best, unit, process.theta)[0] - shift) / spread
    covariance = _covariance(rows, rows, process.theta) + _noise(process.theta) * torch.eye(20, dtype=torch.float64)
    for i in (0, 7, 19):
        others = torch.arange(20) != i
        mean = covariance[i, others] @ torch.linalg.solve(covariance[others][:, others], warped[others])
        expected = best + unit * (process.theta["headroom"].exp() - torch.exp(-(mean * spread + shift)))
        assert process.left_out()[i].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_constant_column_and_equal_labels_are_no_problem():
    x, _ = inputs(10)
    process = GaussianProcess.fit([torch.ones(10, 3)], torch.full((10,), 70.0))
    mean, variance = process.predict([x[:, :3]])
    assert torch.isfinite(mean).all()
    assert torch.isfinite(variance).all()


def test_of_many_rows_a_part_chooses_the_hyperparameters(monkeypatch):
    monkeypatch.setattr(gaussian_process, "MAX_SEARCH_ROWS", 30)
    x, y = (values.double() for values in inputs(60))
    some = torch.randperm(60, generator=torch.Generator().manual_seed(60))[:30]
    theta, evidence = _maximise_evidence([x], y, y.max(), y.std(), None)
    expected, evidence_of_part = _maximise_evidence([x[some]], y[some], y.max(), y.std(), None)
    assert evidence == evidence_of_part
    assert all(torch.equal(theta[key], expected[key]) for key in theta)


def test_all_rows_of_many_are_used_for_predictions(monkeypatch):
    monkeypatch.setattr(gaussian_process, "MAX_SEARCH_ROWS", 30)
    x, y = inputs(60)
    process = GaussianProcess.fit([x], y)
    new, labels = inputs(200, 1)
    assert process.rows[0].shape == (60, 9)
    assert spearmanr(process.predict([new])[0], labels)[0] > 0.9


def test_a_random_generator_moves_the_priors():
    x, y = inputs(20)
    plain = GaussianProcess.fit([x], y)
    moved = [GaussianProcess.fit([x], y, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(moved[0].factor, moved[1].factor)
    assert not torch.equal(moved[0].factor, moved[2].factor)
    assert not torch.equal(moved[0].factor, plain.factor)


def test_members_differ_and_depend_on_the_seed():
    x, y = inputs(20)
    first, again, other = (GaussianProcessHead.fit_members([x], y, 2, seed) for seed in (0, 0, 1))
    means = [[head.predict([x])[0] for head in heads] for heads in (first, again, other)]
    assert len(first) == 2
    assert not torch.equal(means[0][0], means[0][1])
    assert torch.equal(means[0][1], means[1][1])
    assert torch.equal(means[0][0], means[2][0])  # the first member has the priors as they are
    assert not torch.equal(means[0][1], means[2][1])


def test_shares_are_those_of_the_evidence():
    x, y = inputs(20)
    useful = (y[:, None] - y.mean()).float()  # a statistic that tells all
    (head,) = GaussianProcessHead.fit_members([x, useful], y, 1, 0)
    assert head.shares.sum().item() == pytest.approx(1.0)
    assert len(head.processes[0].rows) == 2
    assert head.shares[0] > 0.9


def test_a_useless_statistic_gets_a_small_share():
    x, y = inputs(30)
    noise = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    (head,) = GaussianProcessHead.fit_members([x, noise], y, 1, 0)
    assert head.shares[-1] > 0.5
    assert len(head.processes[-1].rows) == 1


def test_the_variance_of_a_mixture_by_hand(process):
    x, _ = inputs(4, 1)
    lower = dataclasses.replace(process, labels=process.labels - torch.tensor([2.0, 0, 0, 0, 0], dtype=torch.float64))
    head = GaussianProcessHead([process, lower], torch.tensor([0.25, 0.75], dtype=torch.float64))
    mean, variance = process.predict([x])
    # Two equal processes two points apart: the mean is 0.75 * 2 lower, and 0.25 * 0.75 * 2**2 is added to the variance.
    assert torch.allclose(head.predict([x])[0], mean - 1.5)
    assert torch.allclose(head.predict([x])[1], variance + 0.75)


def test_failures_that_cannot_be_predicted_are_raised():
    x, y = inputs(40)
    y[::10] = 10.0
    raised = _without_failures([x], y)
    assert raised.min() > 60
    assert torch.equal(raised[y > 10], y[y > 10])


def test_failures_that_can_be_predicted_stay():
    x, y = inputs(60)
    y[x[:, 6] > 0.85] = 10.0
    assert 0 < (y == 10).sum() < 20
    assert torch.equal(_without_failures([x], y), y)


def test_labels_without_failures_stay():
    x, y = inputs(20)
    assert torch.equal(_without_failures([x], y), y)
    equal = torch.full((20,), 70.0)
    assert torch.equal(_without_failures([x], equal), equal)


def test_a_restored_head_predicts_the_same_bits():
    x, y = inputs(20)
    (head,) = GaussianProcessHead.fit_members([x, x[:, :2]], y, 1, 0)
    restored = GaussianProcessHead.from_tensors({"other": y} | head.to_tensors("member0."), "member0.")
    for one, other in zip(head.predict([x, x[:, :2]]), restored.predict([x, x[:, :2]]), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(head.processes[0].left_out(), restored.processes[0].left_out())


def test_a_missing_tensor_is_a_key_error(process):
    tensors = process.to_tensors("p.")
    del tensors["p.weights"]
    with pytest.raises(KeyError, match="weights"):
        GaussianProcess.from_tensors(tensors, "p.")
