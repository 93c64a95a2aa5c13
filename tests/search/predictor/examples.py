"""Made-up candidates for the tests of the predictor: 6 columns of the architecture, 3 of the recipe, and their accuracies."""

import dataclasses

import numpy as np

from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PRESETS, PredictorSettings

ARCH = np.array([True] * 6 + [False] * 3)
WEIGHTS = np.array([3.0, -2, 1, 1, 0, 0, 2, -3, 1])
QUICK = PredictorSettings(members=2, pretrain_epochs=30, width=64, layers=2)
PAPER = dataclasses.replace(PRESETS["paper"], pretrain_epochs=5, width=32, layers=2, frozen_epochs=8, finetune_epochs=8)


def table(n, seed, noise=0.1):
    """Encoded candidates [n, 9], and accuracies that are a linear function of them with noise."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 9)).astype(np.float32)
    return x, 75 + x @ WEIGHTS + noise * rng.standard_normal(n)


def statistics(x_arch):
    """Two made-up costs that are no linear function of the columns."""
    size = 0.2 + x_arch[:, 0] + x_arch[:, 1] * x_arch[:, 2] + x_arch[:, 3] * x_arch[:, 4]
    return np.stack([1e8 * size**2, 1e6 * (0.3 + x_arch[:, 4] * x_arch[:, 5])], axis=1)


def fitted(x, y, seed=0, settings=QUICK):
    """A predictor without pretraining."""
    predictor = AccuracyPredictor(ARCH, seed=seed, settings=settings)
    predictor.fit(x, y)
    return predictor
