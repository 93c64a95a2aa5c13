"""The default accuracy head: Gaussian processes over encoded candidates and predicted statistics, in closed form.

Deviation from the paper, whose head is a network trained for 100 epochs. A search has tens of labels. From so few, the
evidence of a Gaussian process can still choose how smooth accuracy is, how much the free statistics say about it, which
columns matter and how accuracy saturates. Useless statistics are switched off and do not mislead. What this gains is in
`benchmarks/results/predictor.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_SEARCH_ROWS = 256  # rows that choose the hyperparameters; the prediction uses all rows
CHUNK = 1024  # rows predicted at a time: what is touched stays in the processor's cache
STEPS = 60  # of L-BFGS
MAX_VARIANCE = 1.0  # largest variance of the logarithm of a distance that is believed
MIN_SHARE = 0.01  # a Gaussian process with a smaller share of the evidence is left out
JITTER = 1e-6  # added to the diagonal, so that the covariance can be factored
# In units of the distance from the median to the 90th percentile: a label further than FAR below the median is a failure,
# and then counts as NEAR below it.
FAR, NEAR = 4.0, 2.0
REACH = 4.0  # a hyperparameter stays within so many standard deviations of its prior
# Mean and std of the Gaussian prior of every hyperparameter; all are logarithms. They are choices, the same for every table.
PRIORS = {
    "linear": (-1.0, 2.0),  # variance of a linear function of a group
    "smooth": (-1.0, 2.0),  # variance of a smooth function of a group
    "joint": (-1.0, 2.0),  # variance of a smooth function of all groups together
    "length": (0.3, 0.7),  # length scale of a smooth function of a group
    "column": (0.0, 0.5),  # weight of one column in its group
    "noise": (-3.0, 1.5),  # variance of a training
    "headroom": (0.5, 1.5),  # distance from the best label to the ceiling of accuracy, in standard deviations
}


class _Evidence(torch.autograd.Function):
    """-log N(y; 0, K). Its gradient is in closed form: going back through the Cholesky factor is slower."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, y: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(covariance)
        weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
        ctx.save_for_backward(factor, weights)
        value: Tensor = 0.5 * y @ weights + factor.diagonal().log().sum()
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        factor, weights = ctx.saved_tensors
        inverse = torch.cholesky_inverse(factor)
        return gradients[0] * 0.5 * (inverse - torch.outer(weights, weights)), gradients[0] * weights


@dataclass(frozen=True, eq=False)
class GaussianProcessHead:
    """A mean of Gaussian processes with and without the statistics, weighted by their evidence.

    So statistics that do not help cannot hurt.
    """

    processes: list[GaussianProcess]
    shares: Tensor

    @classmethod
    def fit_members(cls, groups: Sequence[Tensor], y: Tensor, members: int, seed: int) -> list[GaussianProcessHead]:
        """Return the heads of an ensemble.

        Args:
            groups: columns [n, d] each. The first group is always used, the others as far as they help.
            y: accuracies [n].
        """
        y = _without_failures(groups, y.double())
        nested = [groups[:end] for end in range(len(groups), 0, -1)]
        first = [GaussianProcess.fit(part, y) for part in nested]
        shares = torch.stack([process.evidence for process in first]).softmax(0)
        kept = [i for i in range(len(first)) if shares[i] > MIN_SHARE]
        shares, rng = shares[kept] / shares[kept].sum(), torch.Generator().manual_seed(seed)
        heads = [cls([first[i] for i in kept], shares)]
        return heads + [cls([GaussianProcess.fit(nested[i], y, rng) for i in kept], shares) for _ in range(members - 1)]

    def predict(self, groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the accuracy, each [n]. The variance does not include the noise of a training."""
        parts = [process.predict(groups) for process in self.processes]
        means, variances = (torch.stack(list(part)) for part in zip(*parts, strict=True))
        mean = self.shares @ means
        return mean, self.shares @ (variances + (means - mean) ** 2)

    def standing(self, groups: Sequence[Tensor]) -> Tensor:
        """Return how good candidates are [n], standardised, on the scale on which accuracy does not saturate.

        So it can be compared with the standing of the same candidates in other trainings.
        """
        return self.shares @ torch.stack([process.standing(groups) for process in self.processes])

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        tensors = {f"{prefix}shares": self.shares}
        for i, process in enumerate(self.processes):
            tensors |= process.to_tensors(f"{prefix}process{i}.")
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> GaussianProcessHead:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        shares = tensors[f"{prefix}shares"]
        return cls([GaussianProcess.from_tensors(tensors, f"{prefix}process{i}.") for i in range(len(shares))], shares)


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """One fitted Gaussian process. All tensors are float64.

    Attributes:
        theta: hyperparameters, which are logarithms.
        rows: scaled training inputs, by group.
        centre, scale: what the inputs were scaled with, by group.
        labels: best label and std of the labels; then mean, std and minimum of the warped labels.
        factor: Cholesky factor of the covariance.
        weights: solution of covariance @ weights = standardised warped labels.
        evidence: logarithm of the posterior of `theta`, up to a constant.
    """

    theta: dict[str, Tensor]
    rows: list[Tensor]
    centre: list[Tensor]
    scale: list[Tensor]
    labels: Tensor
    factor: Tensor
    weights: Tensor
    evidence: Tensor

    @classmethod
    def fit(cls, groups: Sequence[Tensor], y: Tensor, rng: torch.Generator | None = None) -> GaussianProcess:
        """Fit a Gaussian process to the columns of each group [n, d] and to accuracies [n].

        Args:
            rng: moves the means of the priors by half a random draw, so that the heads of an ensemble differ where the labels
                leave them free to.
        """
        groups = [group.double() for group in groups]
        y = y.double()
        centre = [group.mean(0) for group in groups]
        norms = [(group - c).pow(2).sum(1).mean().sqrt() for group, c in zip(groups, centre, strict=True)]
        scale = [torch.where(norm > 1e-6, norm, torch.ones_like(norm)) for norm in norms]
        rows = [(group - c) / s for group, c, s in zip(groups, centre, scale, strict=True)]
        best, unit = y.max(), y.std(correction=0).clamp_min(1e-6)
        theta, evidence = _maximise_evidence(rows, y, best, unit, rng)
        warped, _ = _warp(y, best, unit, theta)
        shift, spread = warped.mean(), warped.std(correction=0).clamp_min(1e-6)
        covariance = _covariance(rows, rows, theta) + _noise(theta) * torch.eye(len(y), dtype=torch.float64)
        # Contiguous as after loading from a file: then predictions before and after are equal to the last bit.
        factor = torch.linalg.cholesky(covariance).contiguous()
        weights = torch.cholesky_solve(((warped - shift) / spread)[:, None], factor)[:, 0]
        labels = torch.stack([best, unit, shift, spread, warped.min()])
        return cls(theta, rows, centre, scale, labels, factor, weights, evidence)

    def predict(self, groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the accuracy, each [n]. Groups that it was not fitted to are ignored."""
        used, n = groups[: len(self.rows)], len(groups[0])
        parts = [self._predict([group[i : i + CHUNK] for group in used]) for i in range(0, n, CHUNK)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([variance for _, variance in parts])

    def standing(self, groups: Sequence[Tensor]) -> Tensor:
        """Return the mean of the standardised warped label [n]."""
        used = [(group.double() - c) / s for group, c, s in zip(groups, self.centre, self.scale, strict=False)]
        parts = zip(*(group.split(CHUNK) for group in used), strict=True)
        return torch.cat([_covariance(part, self.rows, self.theta) @ self.weights for part in parts])

    def left_out(self) -> Tensor:
        """Return the accuracy of every training row as the other rows predict it (the median) [n]."""
        best, unit, shift, spread, _ = self.labels
        inverse = torch.cholesky_inverse(self.factor)
        warped = self.factor @ (self.factor.T @ self.weights) - self.weights / inverse.diagonal()
        accuracy: Tensor = best + unit * (self.theta["headroom"].exp() - torch.exp(-(warped * spread + shift)))
        return accuracy

    def _predict(self, groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        rows = [(group.double() - c) / s for group, c, s in zip(groups, self.centre, self.scale, strict=True)]
        cross = _covariance(rows, self.rows, self.theta)
        best, unit, shift, spread, worst = self.labels
        centre = (cross @ self.weights * spread + shift).clamp_min(worst - spread)
        solved = torch.linalg.solve_triangular(self.factor, cross.T, upper=False)
        variance = (_variance(rows, self.theta) - solved.pow(2).sum(0)).clamp_min(0.0) * spread**2
        noise = _noise(self.theta) * spread**2
        # The distance to the ceiling is log-normal. Its mean, and not its median, minimises squared errors. Where hardly
        # anything is known, that mean grows without bound, so the variance is believed only up to MAX_VARIANCE.
        variance = variance.clamp_max(MAX_VARIANCE)
        distance = unit * torch.exp(-centre + 0.5 * (variance + noise).clamp_max(MAX_VARIANCE))
        return best + unit * self.theta["headroom"].exp() - distance, distance**2 * torch.expm1(variance)

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        named = {f"theta.{key}": value for key, value in self.theta.items()}
        for i, (rows, centre, scale) in enumerate(zip(self.rows, self.centre, self.scale, strict=True)):
            named |= {f"rows.{i}": rows, f"centre.{i}": centre, f"scale.{i}": scale}
        named |= {key: getattr(self, key) for key in ("labels", "factor", "weights", "evidence")}
        return {f"{prefix}{key}": value for key, value in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> GaussianProcess:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        groups = sum(key.startswith("rows.") for key in own)

        def listed(name: str) -> list[Tensor]:
            return [own[f"{name}.{i}"] for i in range(groups)]

        theta = {key.removeprefix("theta."): value for key, value in own.items() if key.startswith("theta.")}
        rest = [own[key] for key in ("labels", "factor", "weights", "evidence")]
        return cls(theta, listed("rows"), listed("centre"), listed("scale"), *rest)


def _without_failures(groups: Sequence[Tensor], y: Tensor) -> Tensor:
    """Return the labels, with labels far below the rest raised, if all labels are then predicted better from the others.

    A failed training says that a candidate is bad, but not how bad. Where failures can be predicted, the labels stay.
    """
    median = y.median()
    distance = y.quantile(0.9) - median
    if not (y < median - FAR * distance).any() or not distance > 0:
        return y
    raised = y.clamp_min(median - NEAR * distance)
    errors = [(GaussianProcess.fit(groups, labels).left_out() - y).abs().mean() for labels in (y, raised)]
    return raised if errors[1] < errors[0] else y


def _maximise_evidence(
    rows: Sequence[Tensor], y: Tensor, best: Tensor, unit: Tensor, rng: torch.Generator | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the hyperparameters with the highest posterior, found by L-BFGS, and the logarithm of that posterior."""
    if len(y) > MAX_SEARCH_ROWS:
        some = torch.randperm(len(y), generator=torch.Generator().manual_seed(len(y)))[:MAX_SEARCH_ROWS]
        rows, y = [group[some] for group in rows], y[some]
    prior = _prior_means([group.shape[1] for group in rows])
    deviation = {key: PRIORS[key.split(".")[0]][1] for key in prior}
    if rng is not None:
        for key, value in prior.items():
            prior[key] = value + 0.5 * deviation[key] * torch.randn(value.shape, generator=rng, dtype=torch.float64)
    steps = {key: torch.zeros_like(value, requires_grad=True) for key, value in prior.items()}
    eye = torch.eye(len(y), dtype=torch.float64)

    def bounded() -> dict[str, Tensor]:
        # A line search may try any value. Within REACH standard deviations the covariance can be factored.
        return {key: prior[key] + deviation[key] * REACH * (z / REACH).tanh() for key, z in steps.items()}

    def loss() -> Tensor:
        theta = bounded()
        warped, log_jacobian = _warp(y, best, unit, theta)
        spread = warped.std(correction=0).clamp_min(1e-6)
        covariance = _covariance(rows, rows, theta) + _noise(theta) * eye
        total: Tensor = _Evidence.apply(covariance, (warped - warped.mean()) / spread)
        total = total + len(y) * spread.log() - log_jacobian
        for key, value in theta.items():
            total = total + 0.5 * ((value - prior[key]) / deviation[key]).pow(2).sum()
        return total

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer = torch.optim.LBFGS(
        list(steps.values()), max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-4
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return bounded(), -loss()


def _prior_means(widths: Sequence[int]) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"noise": (), "headroom": ()}
    if len(widths) > 1:
        shapes["joint"] = ()
    shapes |= {f"{key}.{i}": () for key in ("linear", "smooth", "length") for i in range(len(widths))}
    shapes |= {f"column.{i}": (width,) for i, width in enumerate(widths)}
    return {key: torch.full(shape, PRIORS[key.split(".")[0]][0], dtype=torch.float64) for key, shape in shapes.items()}


def _warp(y: Tensor, best: Tensor, unit: Tensor, theta: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return -log of the distance to the ceiling of accuracy, and the log-determinant of this transformation.

    Accuracy saturates: a change that halves the error of one network halves the error of another. If the ceiling is far away,
    the transformation is nearly linear.
    """
    distance = (best - y) / unit + theta["headroom"].exp()
    return -distance.log(), -(distance.log() + unit.log()).sum()


def _noise(theta: Mapping[str, Tensor]) -> Tensor:
    return theta["noise"].exp() + JITTER


def _covariance(a: Sequence[Tensor], b: Sequence[Tensor], theta: Mapping[str, Tensor]) -> Tensor:
    """Return the covariance [n, m] of a constant, of a linear and a smooth function of every group, and of a smooth function of
    all groups together.
    """
    total, exponents = torch.ones((), dtype=torch.float64), []
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        weight = theta[f"column.{i}"].exp()
        left, right = left * weight, right * weight
        product = left @ right.T
        square = left.pow(2).sum(1)[:, None] + right.pow(2).sum(1) - 2.0 * product
        exponents.append(-0.5 * torch.exp(-2.0 * theta[f"length.{i}"]) * square.clamp_min(0.0))
        total = total + theta[f"linear.{i}"].exp() * product + theta[f"smooth.{i}"].exp() * exponents[-1].exp()
    if len(exponents) > 1:
        total = total + theta["joint"].exp() * torch.stack(exponents).sum(0).exp()
    return total


def _variance(a: Sequence[Tensor], theta: Mapping[str, Tensor]) -> Tensor:
    """Return the diagonal of `_covariance(a, a)`."""
    total = torch.ones((), dtype=torch.float64) + (theta["joint"].exp() if len(a) > 1 else 0.0)
    for i, rows in enumerate(a):
        square = (rows * theta[f"column.{i}"].exp()).pow(2).sum(1)
        total = total + theta[f"linear.{i}"].exp() * square + theta[f"smooth.{i}"].exp()
    return total
