"""The hyperparameters of a Gaussian process: their posterior, its maximum, and draws from it.

The gradient is in closed form, so that hundreds of values of the posterior cost less than one training step of a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from fbnetv3.search.predictor.kernel import JITTER, Floats, Layout, Scale, joint, terms

REACH = 4.0  # a hyperparameter stays within so many standard deviations of its prior
STEPS = 60  # of L-BFGS
TRANSITIONS, LEAPS = 60, 8  # of Hamiltonian Monte Carlo; the first `WARM_UP` transitions adapt the step
WARM_UP = 24
FIRST_STEP, LEAST_STEP, MOST_STEP = 0.25, 0.02, 0.6
ACCEPTED = 0.7  # share of the proposals that the step is adapted to


class Posterior:
    """The posterior of the hyperparameters, given labelled rows. A point `z` is in standard deviations of the prior.

    Args:
        rows: scaled columns of every group [n, d].
        y: accuracies [n].
        variance: known variance of every label, in points squared, besides the noise of a training [n].
    """

    def __init__(self, rows: Sequence[Floats], y: Floats, variance: Floats | None = None) -> None:
        self.rows, self.y, self.variance = rows, y, variance
        self.layout = Layout([group.shape[1] for group in rows])

    def theta(self, z: Floats) -> dict[str, Floats]:
        """Return the hyperparameters at a point by name."""
        return self.layout.named(self.layout.mean + self.layout.std * z)

    def __call__(self, z: Floats) -> tuple[float, Floats]:
        """Return -log of the posterior up to a constant, and its gradient; infinity where the covariance cannot be factored."""
        value, slope = self._evidence(z)
        return value + 0.5 * float(z @ z), slope * self.layout.std + z

    def _evidence(self, z: Floats) -> tuple[float, Floats]:
        """Return -log of the density of the labels, and its gradient by the hyperparameters."""
        theta, at, n = self.theta(z), self.layout.places, len(self.y)
        scale, slope = Scale.of(self.y, theta), np.zeros(len(z))
        y, distance = scale.warped(self.y), scale.distance(self.y)
        parts = list(terms(self.rows, self.rows, theta))
        together = joint(parts, theta)
        covariance = 1.0 + sum(part.own for part in parts) + together
        # A slope of the warping turns a variance in points into one of what the process sees.
        known = 0.0 if self.variance is None else self.variance / (scale.unit * distance * scale.spread) ** 2
        diagonal = np.exp(theta["noise"]) + JITTER + known
        covariance[np.diag_indices(n)] += diagonal
        factor, failed = lapack.dpotrf(covariance, lower=1)
        if failed:
            return np.inf, slope
        inverse = np.tril(lapack.dpotri(factor, lower=1)[0])
        inverse += np.tril(inverse, -1).T
        weights = inverse @ y
        value = 0.5 * y @ weights + np.log(factor.diagonal()).sum() + n * np.log(scale.spread)
        value += np.log(distance).sum() + n * np.log(scale.unit)
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        for i, part in enumerate(parts):
            smooth = by_covariance * part.smooth
            both = smooth + by_covariance * together
            slope[at[f"linear.{i}"]] = (by_covariance * part.linear).sum()
            slope[at[f"square.{i}"]] = (by_covariance * part.square).sum()
            slope[at[f"smooth.{i}"]] = smooth.sum()
            slope[at[f"length.{i}"]] = -2.0 * (both * part.exponent).sum()
            squares = part.rows**2
            distances = both.sum(1) @ squares - (part.rows * (both @ part.rows)).sum(0)
            slope[at[f"column.{i}"]] = -2.0 * np.exp(-2.0 * theta[f"length.{i}"]) * distances
            slope[at[f"column.{i}"]] += 2.0 * np.exp(theta[f"linear.{i}"]) * _weighted(by_covariance, part.rows)
            slope[at[f"column.{i}"]] += 4.0 * np.exp(theta[f"square.{i}"]) * _weighted(by_covariance, squares)
        if len(parts) > 1:
            slope[at["joint"]] = (by_covariance * together).sum()
        slope[at["noise"]] = np.exp(theta["noise"]) * by_covariance.trace()
        # The headroom moves the labels, their spread, and the variances that are known.
        moved = -scale.headroom / distance  # derivatives of -log(distance)
        by_label = (weights - weights.mean() - y * (weights * y).mean() + y) / scale.spread
        by_known = by_covariance.diagonal() * known * 2.0 * (moved - (y * moved).mean() / scale.spread)
        slope[at["headroom"]] = (by_label * moved - moved + by_known).sum()
        return float(value), slope


def _weighted(weights: Floats, columns: Floats) -> Floats:
    """Return for every column [n, d] its sum of products, weighted [n, n]; the result is [d]."""
    return np.asarray((columns * (weights @ columns)).sum(0))


def maximum(posterior: Posterior) -> tuple[Floats, float]:
    """Return the point with the highest posterior within `REACH`, and the logarithm of the posterior there."""
    start = np.zeros(len(posterior.layout.mean))
    found = minimize(
        posterior,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-REACH, REACH)] * len(start),
        options={"maxiter": STEPS, "ftol": 1e-7},
    )
    return found.x, -float(found.fun)


def draws(posterior: Posterior, start: Floats, n: int, rng: np.random.Generator) -> list[Floats]:
    """Return `n` points of the posterior, by Hamiltonian Monte Carlo from a start such as its maximum.

    Few labels leave hyperparameters open, and the maximum alone makes a predictor too sure of itself.
    """
    z, (value, slope), step = start, posterior(start), FIRST_STEP
    chain = []
    for transition in range(TRANSITIONS):
        momentum = rng.standard_normal(len(z))
        energy = value + 0.5 * float(momentum @ momentum)
        new = _leap(posterior, z, slope, momentum, step * rng.uniform(0.7, 1.3))
        chance = np.exp(min(energy - new[3], 0.0))
        if rng.random() < chance:
            z, value, slope, _ = new
        if transition < WARM_UP:
            step = float(np.clip(step * (1.15 if chance > ACCEPTED else 0.85), LEAST_STEP, MOST_STEP))
        else:
            chain.append(z)
    return [chain[i] for i in np.linspace(0, len(chain) - 1, n).round().astype(int)]


def _leap(
    posterior: Posterior, z: Floats, slope: Floats, momentum: Floats, step: float
) -> tuple[Floats, float, Floats, float]:
    """Follow the dynamics for `LEAPS` steps; return the point, its value and slope, and the energy: infinity out of reach."""
    value = np.inf
    for _ in range(LEAPS):
        momentum = momentum - 0.5 * step * slope
        z = z + step * momentum
        if np.abs(z).max() > REACH:
            return z, np.inf, slope, np.inf
        value, slope = posterior(z)
        if not np.isfinite(value):
            return z, np.inf, slope, np.inf
        momentum = momentum - 0.5 * step * slope
    return z, value, slope, value + 0.5 * float(momentum @ momentum)
