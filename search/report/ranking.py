"""The best candidates of a search: what was measured, and what the predictor believes after all trainings."""

from __future__ import annotations

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
    """

    mean: float
    low: float
    high: float
    best: float


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
        noise: standard deviation of trainings of the same candidate, in points, as the predictor believes.
    """

    rows: tuple[Ranked, ...]
    epochs: int
    noise: float | None

    def to_dicts(self, n: int) -> list[dict[str, Any]]:
        """Return the first `n` candidates as plain data."""
        return [
            {
                "trial": row.trial,
                "measured": round(row.acc1, 4),
                "epochs": self.epochs,
                "trainings": len(row.places),
                **({} if row.belief is None else _rounded(row.belief)),
                "noise": None if self.noise is None else round(self.noise, 4),
                "flops": row.flops,
                "params": row.params,
                "seconds": round(row.seconds, 1),
                "values": dict(row.values),
            }
            for row in self.rows[:n]
        ]


def rank(context: Context, trials: Sequence[Trial], epochs: int, *, predict: bool = True) -> Ranking:
    """Return the candidates with complete trainings, the best first.

    A single measurement is noisy, and the highest of many is too high. The predictor corrects for this, because it learns from
    all trainings.

    Args:
        epochs: after which accuracies are compared.
        predict: fit the predictor, which takes seconds. Fewer than three candidates are not worth it.
    """
    groups: dict[tuple[int, ...], list[Trial]] = {}
    for trial in in_rounds(measured(trials)):
        groups.setdefault(tuple(trial.candidate), []).append(trial)
    beliefs, noise = list[Belief | None]([None] * len(groups)), None
    if predict and len(groups) > 2:
        with cpu_threads(1):  # a search that runs needs the other processors
            posterior = Posterior.of(context, trials, epochs)
            rows = np.array(list(groups))
            beliefs[:], noise = _beliefs(posterior.draw(rows)), _noise(posterior.train_twice(rows))
    ranked = [_ranked(context, some, epochs, belief) for some, belief in zip(groups.values(), beliefs, strict=True)]
    ranked.sort(key=lambda row: row.acc1 if row.belief is None else row.belief.mean, reverse=True)
    return Ranking(tuple(ranked), epochs, noise)


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


def _beliefs(draws: Floats) -> list[Belief]:
    """Return a belief for each column of joint draws [draws, candidates]."""
    best = np.bincount(draws.argmax(axis=1), minlength=draws.shape[1]) / len(draws)
    ends = [interval(column) for column in draws.T]
    return [
        Belief(float(mean), low, high, float(share))
        for mean, (low, _, high), share in zip(draws.mean(axis=0), ends, best, strict=True)
    ]


def _noise(twice: Floats) -> float:
    """Return the deviation of a training from joint draws of two trainings of each candidate [draws, 2, candidates]."""
    return float((twice[:, 0] - twice[:, 1]).std() / 2**0.5)


def _rounded(belief: Belief) -> dict[str, float]:
    named = {"mean": belief.mean, "low": belief.low, "high": belief.high, "best": belief.best}
    return {name: round(value, 4) for name, value in named.items()}
