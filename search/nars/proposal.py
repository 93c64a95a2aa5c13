"""What a search method answers with."""

from __future__ import annotations

from dataclasses import dataclass

from fbnetv3.search.predictor.diagnostics import Statistic


@dataclass(frozen=True)
class Finalist:
    """One of the best candidates of stage 3, or the best trial of stage 2, trained before the answer is chosen.

    Attributes:
        candidate: index row.
        predicted: mean and std of a training in percent, after the epochs of the trials, as predicted before it.
        measured: validation accuracy in percent after those epochs, or chance if the training diverged.
        final: the same after all epochs of the recipe.
    """

    candidate: tuple[int, ...]
    predicted: tuple[float, float]
    measured: float
    final: float


@dataclass(frozen=True)
class Proposal:
    """The candidate that a search method answers with, and how it was found.

    Attributes:
        candidate: index row.
        predicted: mean and std of the predicted accuracy in percent when it was chosen; None if no predictor chose it.
        epochs: number of epochs that the prediction, or the best measurement, is for.
        history: best score of every generation of the evolution.
        finalists: by predicted score, best first; the last one may be the best trial.
        proxy: predictions of the statistics that the encoder was not pretrained on.
    """

    candidate: tuple[int, ...]
    predicted: tuple[float, float] | None
    epochs: int
    history: tuple[float, ...] = ()
    finalists: tuple[Finalist, ...] = ()
    proxy: tuple[Statistic, ...] = ()
