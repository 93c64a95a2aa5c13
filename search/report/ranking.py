"""The best candidates of a search: what was measured, and what the predictor believes after all trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fbnetv3.search.nars.context import Context
from fbnetv3.search.report.analysis import accuracies, measured
from fbnetv3.search.report.findings import interval
from fbnetv3.search.report.posterior import Posterior
from fbnetv3.search.space.space import Floats
from fbnetv3.search.trial import Place, Trial, in_rounds
from fbnetv3.training.engine import cpu_threads


@dataclass(frozen=True)
class Belief:
    """What the predictor believes of the accuracy of a candidate, without the noise of a training.

    Attributes:
        mean: in percent.
        low, high: ends of the interval that holds 90% of what it believes possible.
        best: share of its joint draws in which no other trained candidate is better.
        noise: standard deviation of trainings of the candidate, in points.
    """

    mean: float
    low: float
    high: float
    best: float
    noise: float


@dataclass(frozen=True)
class Ranked:
    """A candidate with all of its complete trainings.

    Attributes:
        places: round and index of the trainings, in the order of rounds.
        acc1: their mean validation accuracy after the epochs at which trials are compared.
        seconds: of all of them.
        values: of the coordinates.
        belief: None where no predictor was asked.
    """

    places: tuple[Place, ...]
    acc1: float
    flops: int
    params: int
    seconds: float
    values: Mapping[str, Any]
    belief: Belief | None

    @property
    def trial(self) -> str:
        """Its trainings in words, such as `3.1` or `1.4, 0.2`."""
        return ", ".join(f"{round}.{index}" for round, index in self.places)


@dataclass(frozen=True)
class Ranking:
    """Candidates, the best first: by the predictor's mean, or by what was measured where no predictor was asked.

    Attributes:
        epochs: after which accuracies are compared.
    """

    rows: tuple[Ranked, ...]
    epochs: int

    def to_dicts(self, n: int) -> list[dict[str, Any]]:
        """Return the first `n` candidates as plain data."""
        return [
            {
                "trial": row.trial,
                "measured": round(row.acc1, 4),
                "epochs": self.epochs,
                "trainings": len(row.places),
                **({} if row.belief is None else _rounded(row.belief)),
                "flops": row.flops,
                "params": row.params,
                "seconds": round(row.seconds, 1),
                "values": dict(row.values),
            }
            for row in self.rows[:n]
        ]


def rank(
    context: Context, trials: Sequence[Trial], epochs: int, *, predict: bool = True, posterior: Posterior | None = None
) -> Ranking:
    """Return the candidates with complete trainings, the best first.

    A single measurement is noisy, and the highest of many is too high. The predictor corrects for this, because it learns from
    all trainings.

    Args:
        epochs: after which accuracies are compared.
        predict: fit a predictor, which takes seconds. Fewer than three candidates are not worth it.
        posterior: one that was fitted to the trials already.
    """
    groups: dict[tuple[int, ...], list[Trial]] = {}
    for trial in in_rounds(measured(trials)):
        groups.setdefault(tuple(trial.candidate), []).append(trial)
    beliefs: Sequence[Belief | None] = [None] * len(groups)
    with cpu_threads(1):  # a search that runs needs the other processors
        if posterior is None and predict and len(groups) > 2:
            posterior = Posterior.of(context, trials, epochs)
        if posterior is not None and groups:
            rows = np.array(list(groups))
            beliefs = _beliefs(posterior.draw(rows), posterior.train_twice(rows))
    ranked = [_ranked(context, some, epochs, belief) for some, belief in zip(groups.values(), beliefs, strict=True)]
    ranked.sort(key=lambda row: row.acc1 if row.belief is None else row.belief.mean, reverse=True)
    return Ranking(tuple(ranked), epochs)


def differing(rows: Sequence[Ranked], names: Sequence[str]) -> list[str]:
    """Return those of the coordinates that have several values in the rows."""
    return [name for name in names if len({row.values[name] for row in rows}) > 1]


def _ranked(context: Context, trials: Sequence[Trial], epochs: int, belief: Belief | None) -> Ranked:
    first = trials[0]
    return Ranked(
        tuple(trial.place for trial in trials),
        float(np.mean(accuracies(trials, epochs))),
        first.flops,
        first.params,
        sum(trial.seconds for trial in trials),
        context.space.values(first.candidate),
        belief,
    )


def _beliefs(draws: Floats, twice: Floats) -> list[Belief]:
    """Return a belief for each candidate.

    Args:
        draws: joint draws of accuracies without noise [draws, candidates].
        twice: joint draws of two trainings of each candidate [draws, 2, candidates].
    """
    best = np.bincount(draws.argmax(axis=1), minlength=draws.shape[1]) / len(draws)
    noise = (twice[:, 0] - twice[:, 1]).std(axis=0) / 2**0.5
    ends = [interval(column) for column in draws.T]
    numbers = zip(draws.mean(axis=0).tolist(), ends, best.tolist(), noise.tolist(), strict=True)
    return [Belief(mean, low, high, share, std) for mean, (low, _, high), share, std in numbers]


def _rounded(belief: Belief) -> dict[str, float]:
    return {name: round(value, 4) for name, value in dataclasses.asdict(belief).items()}
