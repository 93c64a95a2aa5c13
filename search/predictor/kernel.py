"""The covariance of the Gaussian processes, how they see accuracies, and the priors of their hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Theta = Mapping[str, Floats]  # hyperparameters by name; all are logarithms
JITTER = 1e-6  # added to the diagonal, so that the covariance can be factored
# Mean and std of the Gaussian prior of every hyperparameter. They are choices, the same for every table.
PRIORS = {
    "linear": (-1.0, 2.0),  # variance of a linear function of a group
    "square": (1.0, 2.0),  # variance of a sum of squares of a group's columns: each may have its optimum
    "smooth": (-1.0, 2.0),  # variance of a smooth function of a group
    "joint": (-1.0, 2.0),  # variance of a smooth function of all groups together
    "length": (0.3, 0.7),  # length scale of a smooth function of a group
    "column": (-0.2, 0.75),  # weight of one column in its group
    "noise": (-3.0, 1.5),  # variance of a training
    "headroom": (0.5, 1.5),  # distance from the best label to the ceiling of accuracy, in standard deviations
}


class Layout:
    """Where the hyperparameters of groups of columns stand in one vector, with the mean and std of their priors.

    Args:
        widths: number of columns of every group.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        sizes: dict[str, int | None] = {"noise": None, "headroom": None}
        if len(widths) > 1:
            sizes["joint"] = None
        sizes |= {f"{key}.{i}": None for key in ("linear", "square", "smooth", "length") for i in range(len(widths))}
        sizes |= {f"column.{i}": width for i, width in enumerate(widths)}
        self.places: dict[str, Any] = {}
        end, priors = 0, list[tuple[float, float]]()
        for key, size in sizes.items():
            self.places[key] = end if size is None else slice(end, end + size)
            end += 1 if size is None else size
            priors += [PRIORS[key.split(".")[0]]] * (1 if size is None else size)
        self.mean, self.std = np.array(priors).T

    def named(self, vector: Floats) -> dict[str, Floats]:
        """Return the hyperparameters of a vector by name."""
        return {key: np.asarray(vector[place]) for key, place in self.places.items()}


class Term(NamedTuple):
    """What one group of columns adds to the covariance [n, m]."""

    rows: Floats  # weighted, of the left side [n, width]
    exponent: Floats  # of the smooth function
    linear: Floats
    square: Floats
    smooth: Floats

    @property
    def own(self) -> Floats:
        """What the group adds without the others [n, m]."""
        return self.linear + self.square + self.smooth


def terms(a: Sequence[Floats], b: Sequence[Floats], theta: Theta) -> Iterator[Term]:
    """Yield the term of every group between the rows of `a` and those of `b`."""
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        weight = np.exp(theta[f"column.{i}"])
        left, right = left * weight, right * weight
        product = left @ right.T
        squares = left**2, right**2
        distance = squares[0].sum(1)[:, None] + squares[1].sum(1) - 2.0 * product
        exponent = -0.5 * np.exp(-2.0 * theta[f"length.{i}"]) * np.maximum(distance, 0.0)
        yield Term(
            left,
            exponent,
            np.exp(theta[f"linear.{i}"]) * product,
            np.exp(theta[f"square.{i}"]) * (squares[0] @ squares[1].T),
            np.exp(theta[f"smooth.{i}"]) * np.exp(exponent),
        )


def joint(parts: Sequence[Term], theta: Theta) -> Floats:
    """Return the covariance of a smooth function of all groups together; 0 where there is one group."""
    if len(parts) < 2:
        return np.zeros(())
    return np.exp(theta["joint"]) * np.exp(sum(part.exponent for part in parts))


def covariance(a: Sequence[Floats], b: Sequence[Floats], theta: Theta) -> Floats:
    """Return the covariance [n, m] of a constant, of a linear function, a sum of squares and a smooth function of every group,
    and of a smooth function of all groups together.
    """
    parts = list(terms(a, b, theta))
    return 1.0 + sum(part.own for part in parts) + joint(parts, theta)


def variance(a: Sequence[Floats], theta: Theta) -> Floats:
    """Return the diagonal of `covariance(a, a)`."""
    total = 1.0 + (np.exp(theta["joint"]) if len(a) > 1 else 0.0)
    for i, rows in enumerate(a):
        squares = (rows * np.exp(theta[f"column.{i}"])) ** 2
        total = total + np.exp(theta[f"linear.{i}"]) * squares.sum(1) + np.exp(theta[f"smooth.{i}"])
        total = total + np.exp(theta[f"square.{i}"]) * (squares**2).sum(1)
    return np.asarray(total)


def noise(theta: Theta) -> float:
    """Return the variance of a training."""
    return float(np.exp(theta["noise"])) + JITTER


class Scale(NamedTuple):
    """How accuracies become the numbers that a Gaussian process sees: -log of their distance to the ceiling, standardised.

    Accuracy saturates: a change that halves the error of one network halves the error of another. If the ceiling is far away,
    the transformation is nearly linear.
    """

    best: float  # the best label
    unit: float  # std of the labels
    headroom: float  # distance from the best label to the ceiling, in units
    shift: float  # mean of -log of the distances
    spread: float  # their std

    @classmethod
    def of(cls, y: Floats, theta: Theta) -> Scale:
        """Return the scale of labels."""
        best, unit, headroom = float(y.max()), max(float(y.std()), 1e-6), float(np.exp(theta["headroom"]))
        logs = -np.log((best - y) / unit + headroom)
        return cls(best, unit, headroom, float(logs.mean()), max(float(logs.std()), 1e-6))

    def distance(self, y: Floats) -> Floats:
        """Return how far accuracies are below the ceiling, in units."""
        return (self.best - y) / self.unit + self.headroom

    def warped(self, y: Floats) -> Floats:
        """Return what a Gaussian process sees of accuracies."""
        return np.asarray((-np.log(self.distance(y)) - self.shift) / self.spread)

    def accuracy(self, distance: Floats) -> Floats:
        """Return the accuracies of distances to the ceiling in units."""
        return np.asarray(self.best + self.unit * (self.headroom - distance))
