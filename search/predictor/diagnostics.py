"""What the encoder learnt from pretraining: predicted and exact statistics of unseen architectures (Figure 4a, b)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import IntMatrix, SearchSpace

SHOWN = ("flops", "params")


@dataclass(frozen=True)
class Statistic:
    """One statistic of the held-out architectures: exact and predicted values in the same order."""

    name: str
    exact: tuple[float, ...]
    predicted: tuple[float, ...]

    @property
    def r2(self) -> float:
        """Share of the variance that the prediction explains; 0 where all exact values are equal."""
        exact, predicted = np.array(self.exact), np.array(self.predicted)
        total = ((exact - exact.mean()) ** 2).sum()
        return float(1 - ((exact - predicted) ** 2).sum() / total) if total else 0.0


def held_out_statistics(space: SearchSpace, predictor: AccuracyPredictor, rows: IntMatrix) -> tuple[Statistic, ...]:
    """Return the statistics `SHOWN` of index rows that the predictor was not pretrained on.

    The result is empty if the predictor was not pretrained at all.
    """
    if not predictor.settings.pretrain:
        return ()
    names, labels = space.statistics(rows)
    kept = [name for name in names if predictor.settings.rich_labels or name in SHOWN]
    predicted = predictor.predict_labels(encode(space, rows)[:, arch_mask(space)])
    return tuple(
        Statistic(name, tuple(labels[:, names.index(name)].tolist()), tuple(predicted[:, kept.index(name)].tolist()))
        for name in SHOWN
    )
