"""The accuracy predictor of section 3.1: an encoder of architectures with a proxy head and an accuracy head (Figure 3).

It works on plain arrays, so that it serves any table of architectures, recipes and accuracies. An ensemble of equal
networks with different weights runs as one batch; its spread is the predicted deviation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT

Floats = npt.NDArray[np.floating[Any]]
Layers = list[tuple[Tensor, Tensor]]  # weight [members, in, out], bias [members, 1, out]


@dataclass(frozen=True, config=STRICT)
class PredictorSettings:
    """Sizes and rates. The paper gives the two times 50 epochs and the Huber loss; the others are this package's choices."""

    members: int = 8
    width: int = 16
    pretrain_epochs: int = 10
    pretrain_batch: int = 128
    pretrain_lr: float = 3e-3
    frozen_epochs: int = 50  # encoder frozen (section 3.3)
    finetune_epochs: int = 50  # everything, at the reduced rate (section 3.3)
    batch: int = 4
    lr: float = 1e-2
    reduced_lr: float = 1e-3
    weight_decay: float = 1.0


class AccuracyPredictor:
    """Predicts accuracy from encoded architecture-recipe pairs.

    Args:
        arch_columns: boolean mask, or indices, of the columns of `x` that describe the architecture; the encoder sees them
            alone. All other columns describe the recipe and join at the accuracy head.
        n_columns: number of columns of `x`; only needed with indices.
        seed: of weights and batches; the same seed, data and thread count give the same predictions.
    """

    def __init__(
        self,
        arch_columns: npt.ArrayLike,
        *,
        seed: int,
        n_columns: int | None = None,
        settings: PredictorSettings | None = None,
    ) -> None:
        columns = np.asarray(arch_columns)
        if columns.dtype != bool:
            if n_columns is None:
                raise InputError("arch_columns are indices: give n_columns too, or a boolean mask")
            columns = np.isin(np.arange(n_columns), columns)
        if columns.ndim != 1 or not columns.any():
            raise InputError("arch_columns must name at least one column")
        self.arch_columns = columns
        self.seed = seed
        self.settings = settings or PredictorSettings()
        self._pretrained: Layers = []
        self._encoder: Layers = []
        self._proxy: Layers = []
        self._head: Layers = []
        self._scale = (0.0, 1.0)
        self._label_scale: tuple[Tensor, Tensor] | None = None

    def pretrain(self, x_arch: Floats, labels: Floats) -> None:
        """Train encoder and proxy head on free labels (section 3.2).

        Args:
            x_arch: architecture columns alone, [n, number of arch_columns].
            labels: architecture statistics, [n, k], any units: they are standardised inside.

        Raises:
            InputError: shapes that do not fit, or values that are not finite.
        """
        x, y = self._check(x_arch, int(self.arch_columns.sum())), self._check(labels, None)
        if len(x) != len(y):
            raise InputError(f"pretrain: {len(x)} rows of x_arch but {len(y)} of labels")
        rng = torch.Generator().manual_seed(self.seed)
        self._pretrained = self._new_encoder(rng)
        self._proxy = self._layers((self.settings.width, y.shape[1]), rng)
        mean, std = y.mean(0), y.std(0).clamp_min(1e-9)
        self._label_scale = (mean, std)
        target = (y - mean) / std

        def predict(rows: Tensor) -> Tensor:
            return _mlp(_mlp(x[rows], self._pretrained, last=True), self._proxy)

        s = self.settings
        self._train(
            predict, target, self._pretrained + self._proxy, s.pretrain_epochs, s.pretrain_batch, s.pretrain_lr, rng
        )

    def predict_labels(self, x_arch: Floats) -> npt.NDArray[np.float64]:
        """Statistics [n, k] that the proxy head predicts, in the units of `pretrain`'s labels (Figure 4a and b)."""
        if self._label_scale is None:
            raise InputError("predict_labels needs a pretrained predictor: call pretrain first")
        x = self._check(x_arch, int(self.arch_columns.sum()))
        with torch.no_grad():
            out = _mlp(_mlp(x, self._pretrained, last=True), self._proxy).mean(0)
        mean, std = self._label_scale
        return (out * std + mean).double().numpy()

    def fit(self, x: Floats, y: Floats) -> None:
        """Train the accuracy head on the encoder, frozen, then both at the reduced rate (section 3.3).

        Starts from the pretrained encoder every time (from a fresh one without `pretrain`), so the result depends on the
        seed and the data alone, not on earlier calls.

        Args:
            x: encoded pairs [n, columns].
            y: accuracies in percentage points [n].

        Raises:
            InputError: shapes that do not fit, or values that are not finite.
        """
        inputs, target = self._check(x, len(self.arch_columns)), self._check(np.reshape(y, (-1, 1)), 1)
        if len(inputs) != len(target):
            raise InputError(f"fit: {len(inputs)} rows of x but {len(target)} of y")
        s, rng = self.settings, torch.Generator().manual_seed(self.seed + 1)
        start = self._pretrained or self._new_encoder(rng)
        self._encoder = [(weight.detach().clone(), bias.detach().clone()) for weight, bias in start]
        recipe_columns = int((~self.arch_columns).sum())
        self._head = self._layers((s.width + recipe_columns, s.width, 1), rng)
        target, self._scale = _standardise(target)

        def predict(rows: Tensor) -> Tensor:
            return self._forward(inputs[rows])

        self._train(predict, target, self._head, s.frozen_epochs, s.batch, s.lr, rng)
        self._train(predict, target, self._encoder + self._head, s.finetune_epochs, s.batch, s.reduced_lr, rng)

    def predict(self, x: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and deviation over the ensemble of the predicted accuracy in percentage points, each [n]."""
        members = self.predict_members(x)
        return members.mean(0), members.std(0)

    def predict_members(self, x: Floats) -> npt.NDArray[np.float64]:
        """Predicted accuracy by every member of the ensemble, [members, n]."""
        if not self._head:
            raise InputError("predict needs a fitted predictor: call fit first")
        with torch.no_grad():
            out = self._forward(self._check(x, len(self.arch_columns)))[..., 0]
        return (out.double() * self._scale[1] + self._scale[0]).numpy()

    def _forward(self, x: Tensor) -> Tensor:
        """Standardised accuracy [members, n, 1] of rows [n, columns] or [members, n, columns]."""
        mask = torch.from_numpy(self.arch_columns)
        embedding = _mlp(x[..., mask], self._encoder, last=True)
        recipe = x[..., ~mask].expand(len(embedding), -1, -1)
        return _mlp(torch.cat([embedding, recipe], dim=-1), self._head)

    def _new_encoder(self, rng: torch.Generator) -> Layers:
        return self._layers((int(self.arch_columns.sum()), self.settings.width, self.settings.width), rng)

    def _layers(self, widths: tuple[int, ...], rng: torch.Generator) -> Layers:
        """Fresh weights, uniform as torch's Linear has them, for every member."""
        layers = []
        for fan_in, fan_out in itertools.pairwise(widths):
            bound = fan_in**-0.5
            shapes = ((self.settings.members, fan_in, fan_out), (self.settings.members, 1, fan_out))
            weight, bias = ((2 * torch.rand(shape, generator=rng) - 1) * bound for shape in shapes)
            layers.append((weight, bias))
        return layers

    def _train(
        self, predict: Callable[[Tensor], Tensor], target: Tensor, layers: Layers, epochs: int, batch: int, lr: float,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        """AdamW on the Huber loss; every member sees the rows in an order of its own."""
        parameters = [tensor.requires_grad_() for layer in layers for tensor in layer]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=self.settings.weight_decay, foreach=True)
        n, members = len(target), self.settings.members
        for _ in range(epochs):
            order = torch.rand(members, n, generator=rng).argsort(1)
            for rows in order.split(batch, dim=1):
                # A sum over members: their gradients are independent, as if each were trained alone.
                loss = F.huber_loss(predict(rows), target[rows], reduction="none").mean((1, 2)).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        for tensor in parameters:
            tensor.requires_grad_(False)

    def _check(self, values: npt.ArrayLike, columns: int | None) -> Tensor:
        array = np.asarray(values, dtype=np.float32)
        if array.ndim != 2 or not len(array) or (columns is not None and array.shape[1] != columns):
            raise InputError(f"expected an array [n >= 1, {columns or 'k'}], got shape {list(array.shape)}")
        if not np.isfinite(array).all():
            raise InputError("the array holds values that are not finite")
        return torch.from_numpy(array)


def _standardise(y: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Accuracies over the distance from the median to the 90th percentile, and that (median, distance).

    What lies more than two distances below the median counts as two: a failed training says that a pair is bad, not how
    bad, and must not squeeze the differences between good pairs. Deviation from the paper, which does not say how labels
    are scaled: without this, with Huber alone, the rank correlation on held-out trials of the micro space was lower.
    """
    centre = y.median()
    distance = max((y.quantile(0.9) - centre).item(), 1e-6)
    return ((y - centre) / distance).clamp_min(-2.0), (centre.item(), distance)


def _mlp(x: Tensor, layers: Layers, last: bool = False) -> Tensor:
    """Layers with ReLU between them, and after the last one if `last`; [.., n, in] to [members, n, out]."""
    for i, (weight, bias) in enumerate(layers):
        x = torch.matmul(x, weight) + bias
        if last or i < len(layers) - 1:
            x = F.relu(x)
    return x
