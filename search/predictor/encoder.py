"""Encoder and proxy head: they predict an architecture's statistics from its encoding (section 3.2, top of Figure 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbnetv3.device import seed_generators
from fbnetv3.errors import InputError
from fbnetv3.search.predictor.settings import PredictorSettings


@dataclass(frozen=True, eq=False)
class Proxy:
    """A pretrained encoder with its proxy head, in eval mode.

    The targets are the statistics, and the logarithms of those that are always positive, standardised by `mean` and `std`.

    Attributes:
        logs: positions of the statistics whose logarithms are targets too.
    """

    encoder: nn.Sequential
    head: nn.Linear
    mean: Tensor
    std: Tensor
    logs: Tensor

    def targets(self, x: Tensor) -> Tensor:
        """Return the standardised targets that the proxy head predicts [n, k + len(logs)]."""
        with torch.no_grad():
            return self.head(self.encoder(x))  # type: ignore[no-any-return]

    def labels(self, x: Tensor) -> Tensor:
        """Return the predicted statistics [n, k] in the units of the labels."""
        k = len(self.mean) - len(self.logs)
        return self.targets(x)[:, :k].double() * self.std[:k] + self.mean[:k]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        tensors = {f"encoder.{key}": value for key, value in self.encoder.state_dict().items()}
        tensors |= {f"proxy.{key}": value for key, value in self.head.state_dict().items()}
        return tensors | {"proxy.mean": self.mean, "proxy.std": self.std, "proxy.logs": self.logs}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], columns: int, settings: PredictorSettings) -> Proxy:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor has another shape.
        """
        mean, std, logs = (tensors[f"proxy.{key}"] for key in ("mean", "std", "logs"))
        encoder, head = new_encoder(columns, settings), nn.Linear(settings.width, len(mean))
        encoder.load_state_dict(_part(tensors, "encoder."))
        head.load_state_dict({key: tensors[f"proxy.{key}"] for key in ("weight", "bias")})
        return cls(encoder.eval(), head, mean, std, logs)


def new_encoder(columns: int, settings: PredictorSettings) -> nn.Sequential:
    """Return new layers, initialised from torch's global generator.

    The activation is SiLU, because statistics are products and sums of the columns: with ReLU the error on unseen
    architectures is twice as large.
    """
    widths = [columns] + settings.layers * [settings.width]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.BatchNorm1d(fan_out), nn.SiLU()]
    return nn.Sequential(*layers)


def pretrain(x: Tensor, labels: Tensor, settings: PredictorSettings, seed: int) -> Proxy:
    """Fit encoder and proxy head to the statistics [n, k] of encoded architectures [n, columns].

    The loss is the squared error, the optimizer AdamW with one cycle of the learning rate. A constant statistic is predicted
    as that constant.

    Raises:
        InputError: fewer than two rows, with which batch norm cannot be trained.
    """
    n = len(x)
    if n < 2:
        raise InputError("pretrain needs at least 2 rows, better 1,000 or more: they cost nothing")
    labels = labels.double()
    logs = ((labels > 0).all(0) & (labels.std(0) > 0)).nonzero()[:, 0] if settings.log_labels else torch.arange(0)
    targets = torch.cat([labels, labels[:, logs].log()], dim=1)
    mean, std = targets.mean(0), targets.std(0)
    std = torch.where(std > 1e-12 * mean.abs(), std, torch.ones(()).double())
    standardised = ((targets - mean) / std).float()
    with torch.random.fork_rng(devices=[]):
        seed_generators(seed, torch.device("cpu"))  # torch.manual_seed would also seed the GPUs, for good
        encoder, head = new_encoder(x.shape[1], settings), nn.Linear(settings.width, len(mean))
    proxy = Proxy(encoder, head, mean, std, logs)
    batch = min(settings.pretrain_batch, n)
    steps = settings.pretrain_epochs * (n // batch)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.pretrain_lr, weight_decay=1e-2, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.pretrain_lr, total_steps=max(steps, 4))
    rng = torch.Generator().manual_seed(seed)
    for _ in range(settings.pretrain_epochs):
        # All batches have the same size. The rest, which may be a single row, is left out of this epoch.
        for rows in torch.randperm(n, generator=rng)[: n // batch * batch].split(batch):
            loss = F.mse_loss(head(encoder(x[rows])), standardised[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    if not all(math.isfinite(p.sum().item()) for p in parameters):
        raise InputError(f"pretraining diverged; try a pretrain_lr below {settings.pretrain_lr:g}")
    encoder.eval().requires_grad_(False)
    head.requires_grad_(False)
    return proxy


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
