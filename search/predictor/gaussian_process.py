"""The default accuracy head: Gaussian processes over encoded candidates and predicted statistics, in closed form.

Deviation from the paper, whose head is a network trained for 100 epochs. A search has tens of labels. From so few, a Gaussian
process can still learn how smooth accuracy is, how much the free statistics say about it, which columns matter and how
accuracy saturates, and it knows how little it knows. Useless statistics are switched off and do not mislead. What this gains
is in `benchmarks/results/predictor.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.special import log_ndtr, ndtr
from torch import Tensor

from fbnetv3.search.predictor.evidence import Posterior, draws, maximum
from fbnetv3.search.predictor.kernel import Floats, Scale, Theta, covariance, noise, variance

MAX_SEARCH_ROWS = 256  # rows that choose the hyperparameters; the prediction uses all rows
CHUNK = 1024  # rows predicted at a time: what is touched stays in the processor's cache
MIN_SHARE = 0.01  # a Gaussian process with a smaller share of the evidence is left out
# In units of the distance from the median to the 90th percentile: a label further than FAR below the median is a failure,
# and then counts as NEAR below it.
FAR, NEAR = 4.0, 2.0
MAX_NOISE = 1.0  # largest variance of the logarithm of a training's distance to the ceiling that is believed
BELOW = 1.0  # predictions are at most so many standard deviations of the labels below the worst label


@dataclass(frozen=True, eq=False)
class GaussianProcessHead:
    """A mean of Gaussian processes with and without the statistics, weighted by their evidence.

    So statistics that do not help cannot hurt.
    """

    processes: list[GaussianProcess]
    shares: Floats

    @classmethod
    def fit_members(
        cls, groups: Sequence[Floats], y: Floats, members: int, seed: int, known: Floats | None = None
    ) -> list[GaussianProcessHead]:
        """Return the heads of an ensemble: draws from the posterior of the hyperparameters, or its maximum for one member.

        Args:
            groups: columns [n, d] each. The first group is always used, the others as far as they help.
            y: accuracies [n].
            known: variance of every label besides the noise of a training [n].
        """
        y = _without_failures(groups, y)
        nested = [Data.of(groups[:end], y, known) for end in range(len(groups), 0, -1)]
        posteriors = [data.posterior() for data in nested]
        best = [maximum(posterior) for posterior in posteriors]
        evidence = np.array([value for _, value in best])
        shares = np.exp(evidence - evidence.max())
        shares /= shares.sum()
        kept = [i for i in range(len(nested)) if shares[i] > MIN_SHARE]
        shares, rng = shares[kept] / shares[kept].sum(), np.random.default_rng(seed)
        points = [[best[i][0]] if members == 1 else draws(posteriors[i], best[i][0], members, rng) for i in kept]
        return [
            cls(
                [nested[i].process(posteriors[i].theta(z[member])) for i, z in zip(kept, points, strict=True)],
                shares,
            )
            for member in range(members)
        ]

    def predict(self, groups: Sequence[Floats], noisy: bool = False) -> tuple[Floats, Floats]:
        """Return mean and variance of the accuracy, each [n]; with `noisy`, the variance of a single training."""
        means, variances = np.stack([process.predict(groups, noisy) for process in self.processes], axis=1)
        mean = self.shares @ means
        return mean, self.shares @ (variances + (means - mean) ** 2)

    def standing(self, groups: Sequence[Floats]) -> Floats:
        """Return how good candidates are [n], standardised, on the scale on which accuracy does not saturate.

        So it can be compared with the standing of the same candidates in other trainings.
        """
        return self.shares @ np.stack([process.standing(groups) for process in self.processes])

    def draw(self, groups: Sequence[Floats], n: int, rng: np.random.Generator, noisy: bool) -> Floats:
        """Return `n` joint draws of the accuracies [n, rows]; with `noisy`, of trainings."""
        counts = rng.multinomial(n, self.shares)
        return np.concatenate(
            [p.draw(groups, int(count), rng, noisy) for p, count in zip(self.processes, counts, strict=True)]
        )

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        tensors = {f"{prefix}shares": torch.from_numpy(self.shares)}
        for i, process in enumerate(self.processes):
            tensors |= process.to_tensors(f"{prefix}process{i}.")
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> GaussianProcessHead:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        shares = tensors[f"{prefix}shares"].numpy()
        return cls([GaussianProcess.from_tensors(tensors, f"{prefix}process{i}.") for i in range(len(shares))], shares)


@dataclass(frozen=True, eq=False)
class Data:
    """Labelled rows, scaled.

    Attributes:
        rows: by group; `centre` and `scale` are what they were scaled with.
        y: accuracies [n].
        known: variance of every label besides the noise of a training [n].
    """

    rows: list[Floats]
    centre: list[Floats]
    scale: list[float]
    y: Floats
    known: Floats

    @classmethod
    def of(cls, groups: Sequence[Floats], y: Floats, known: Floats | None = None) -> Data:
        """Scale every group so that its rows have a mean square of 1."""
        centre = [group.mean(0) for group in groups]
        norms = [float(np.sqrt(((group - c) ** 2).sum(1).mean())) for group, c in zip(groups, centre, strict=True)]
        scale = [norm if norm > 1e-6 else 1.0 for norm in norms]
        rows = [(group - c) / s for group, c, s in zip(groups, centre, scale, strict=True)]
        return cls(rows, centre, scale, y, np.zeros(len(y)) if known is None else known)

    def posterior(self) -> Posterior:
        """Return the posterior of the hyperparameters. Of many rows, a part decides."""
        some = np.arange(len(self.y))
        if len(some) > MAX_SEARCH_ROWS:
            some = np.random.default_rng(len(some)).permutation(len(some))[:MAX_SEARCH_ROWS]
        return Posterior([rows[some] for rows in self.rows], self.y[some], self.known[some])

    def process(self, theta: Theta) -> GaussianProcess:
        """Return the process with these hyperparameters and all rows."""
        scale = Scale.of(self.y, theta)
        warped = scale.warped(self.y)
        known = self.known / (scale.unit * scale.distance(self.y) * scale.spread) ** 2
        matrix = covariance(self.rows, self.rows, theta) + np.diag(noise(theta) + known)
        factor = np.asarray(np.linalg.cholesky(matrix), np.float64)
        weights = np.asarray(cho_solve((factor, True), warped), np.float64)
        lowest = float(scale.distance(self.y.min())) + BELOW
        return GaussianProcess(dict(theta), self.rows, self.centre, self.scale, scale, lowest, factor, weights)


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """One fitted Gaussian process.

    Attributes:
        theta: hyperparameters, which are logarithms.
        rows: scaled training inputs, by group.
        centre, scale: what the inputs were scaled with, by group.
        labels: how accuracies become what the process sees.
        lowest: largest distance to the ceiling that is predicted, in units.
        factor: Cholesky factor of the covariance.
        weights: solution of covariance @ weights = what the process sees of the labels.
    """

    theta: dict[str, Floats]
    rows: list[Floats]
    centre: list[Floats]
    scale: list[float]
    labels: Scale
    lowest: float
    factor: Floats
    weights: Floats

    @classmethod
    def fit(cls, groups: Sequence[Floats], y: Floats) -> GaussianProcess:
        """Fit the process with the most likely hyperparameters to the columns of each group [n, d] and to accuracies [n]."""
        data = Data.of(groups, y)
        posterior = data.posterior()
        return data.process(posterior.theta(maximum(posterior)[0]))

    def predict(self, groups: Sequence[Floats], noisy: bool = False) -> tuple[Floats, Floats]:
        """Return mean and variance of the accuracy, each [n]; with `noisy`, the variance of a single training.

        Groups that it was not fitted to are ignored.
        """
        used, n = groups[: len(self.rows)], len(groups[0])
        parts = [self._predict([group[i : i + CHUNK] for group in used], noisy) for i in range(0, n, CHUNK)]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate([var for _, var in parts])

    def standing(self, groups: Sequence[Floats]) -> Floats:
        """Return the mean of the standardised warped label [n]."""
        return (self._solved(groups)[1] - self.labels.shift) / self.labels.spread

    def draw(self, groups: Sequence[Floats], n: int, rng: np.random.Generator, noisy: bool) -> Floats:
        """Return `n` joint draws of the accuracies of rows [n, rows]; with `noisy`, of one training of each row.

        A draw of a row has the same meaning as in `predict`: the expected accuracy of its trainings.
        """
        rows, centre, solved = self._solved(groups)
        matrix = covariance(rows, rows, self.theta) - solved.T @ solved
        seen = centre + rng.standard_normal((n, len(centre))) @ _root(matrix).T * self.labels.spread
        variance = self._noise()
        if noisy:
            seen += np.sqrt(variance) * rng.standard_normal(seen.shape)
        distance = np.minimum(np.exp(-seen), self.lowest)
        return self.labels.accuracy(distance if noisy else distance * np.exp(0.5 * min(variance, MAX_NOISE)))

    def left_out(self) -> Floats:
        """Return the accuracy of every training row as the other rows predict it (the median) [n]."""
        inverse = np.linalg.inv(self.factor)
        warped = self.factor @ (self.factor.T @ self.weights) - self.weights / (inverse**2).sum(0)
        return self.labels.accuracy(np.exp(-(warped * self.labels.spread + self.labels.shift)))

    def _solved(self, groups: Sequence[Floats]) -> tuple[list[Floats], Floats, Floats]:
        """Return the scaled rows, the mean of -log of their distances, and their covariances solved by the factor."""
        used = zip(groups[: len(self.rows)], self.centre, self.scale, strict=True)
        rows = [(group - c) / s for group, c, s in used]
        cross = covariance(self.rows, rows, self.theta)
        centre = self.weights @ cross * self.labels.spread + self.labels.shift
        return rows, centre, solve_triangular(self.factor, cross, lower=True, check_finite=False)

    def _noise(self) -> float:
        """Return the variance of -log of a training's distance."""
        return noise(self.theta) * self.labels.spread**2

    def _predict(self, groups: Sequence[Floats], noisy: bool) -> tuple[Floats, Floats]:
        rows, centre, solved = self._solved(groups)
        var = np.maximum(variance(rows, self.theta) - (solved**2).sum(0), 0.0) * self.labels.spread**2
        # The distance to the ceiling is log-normal up to `lowest`, where it is cut off. Its mean, and not its median,
        # minimises squared errors.
        first, second = _cut_moments(centre, np.sqrt(var + (self._noise() if noisy else 0.0) + 1e-12), self.lowest)
        variance_of_distance = np.maximum(second - first**2, 0.0)
        # The mean is that of trainings, with their noise.
        factor = 1.0 if noisy else np.exp(0.5 * min(self._noise(), MAX_NOISE))
        return self.labels.accuracy(first * factor), (self.labels.unit * factor) ** 2 * variance_of_distance

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        named: dict[str, Floats] = {f"theta.{key}": value for key, value in self.theta.items()}
        for i, (rows, centre, scale) in enumerate(zip(self.rows, self.centre, self.scale, strict=True)):
            named |= {f"rows.{i}": rows, f"centre.{i}": centre, f"scale.{i}": np.array(scale)}
        named |= {"labels": np.array([*self.labels, self.lowest]), "factor": self.factor, "weights": self.weights}
        return {f"{prefix}{key}": torch.from_numpy(np.array(value)) for key, value in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> GaussianProcess:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        own = {key.removeprefix(prefix): value.numpy() for key, value in tensors.items() if key.startswith(prefix)}
        groups = range(sum(key.startswith("rows.") for key in own))
        theta = {key.removeprefix("theta."): value for key, value in own.items() if key.startswith("theta.")}
        # Files of schema 3 and before are of processes without squares: their variance is 0.
        theta = {f"square.{i}": np.array(-np.inf) for i in groups} | theta
        *labels, lowest = own["labels"].tolist()
        rows, centre = ([own[f"{name}.{i}"] for i in groups] for name in ("rows", "centre"))
        scale = [float(own[f"scale.{i}"]) for i in groups]
        return cls(theta, rows, centre, scale, Scale(*labels), lowest, own["factor"], own["weights"])


def _cut_moments(centre: Floats, std: Floats, highest: float) -> tuple[Floats, Floats]:
    """Return the first two moments of min(exp(-x), highest), where x is normal with a mean `centre`; all are [n]."""
    cut = (-np.log(highest) - centre) / std
    below = ndtr(cut)
    first = highest * below + np.exp(-centre + 0.5 * std**2 + log_ndtr(-cut - std))
    second = highest**2 * below + np.exp(-2.0 * centre + 2.0 * std**2 + log_ndtr(-cut - 2.0 * std))
    return first, second


def _root(matrix: Floats) -> Floats:
    """Return the Cholesky factor of a covariance that may be singular, as that of near-duplicates is."""
    for jitter in 10.0 ** np.arange(-8, 3):
        factor, failed = lapack.dpotrf(
            matrix + jitter * max(matrix.trace() / len(matrix), 1e-9) * np.eye(len(matrix)), lower=1
        )
        if not failed:
            return np.tril(factor)
    raise AssertionError("a covariance has a negative diagonal")


def _without_failures(groups: Sequence[Floats], y: Floats) -> Floats:
    """Return the labels, with labels far below the rest raised, if all labels are then predicted better from the others.

    A failed training says that a candidate is bad, but not how bad. Where failures can be predicted, the labels stay.
    """
    median = float(np.median(y))
    distance = float(np.quantile(y, 0.9)) - median
    if not (y < median - FAR * distance).any() or not distance > 0:
        return y
    raised = np.maximum(y, median - NEAR * distance)
    errors = [np.abs(GaussianProcess.fit(groups, labels).left_out() - y).mean() for labels in (y, raised)]
    return raised if errors[1] < errors[0] else y
