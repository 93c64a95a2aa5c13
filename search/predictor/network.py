"""The paper's accuracy head: a network that sees the pretrained embedding and the recipe (section 3.3, bottom of Figure 3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbnetv3.device import seed_generators
from fbnetv3.search.predictor.encoder import new_encoder
from fbnetv3.search.predictor.settings import PredictorSettings


@dataclass(frozen=True, eq=False)
class NetworkHead:
    """A fine-tuned encoder, and a head with one hidden layer. The accuracy is output * `scale` + `centre`."""

    encoder: nn.Sequential
    head: nn.Sequential
    centre: Tensor
    scale: Tensor

    @classmethod
    def fit(
        cls,
        x_arch: Tensor,
        x_recipe: Tensor,
        y: Tensor,
        start: nn.Sequential | None,
        settings: PredictorSettings,
        seed: int,
    ) -> NetworkHead:
        """Train a head: first with a frozen encoder, then all layers at the reduced rate.

        Args:
            start: pretrained encoder; None starts from a new one, which is never frozen.
        """
        with torch.random.fork_rng(devices=[]):
            seed_generators(seed, torch.device("cpu"))  # torch.manual_seed would also seed the GPUs, for good
            encoder, head = _fresh(x_arch.shape[1], x_recipe.shape[1], settings)
        if start is not None:
            encoder = copy.deepcopy(start)
        # The running statistics of batch norm stay those of the pool: a few labelled candidates say nothing about them.
        encoder.eval().requires_grad_(start is None)
        centre, scale = y.mean(), torch.ones(())
        if settings.standardise:
            scale = y.std(correction=0).clamp_min(1e-6)
        self = cls(encoder, head, centre, scale)
        target, rng = (y - centre) / scale, torch.Generator().manual_seed(seed)
        self._train(x_arch, x_recipe, target, settings, settings.frozen_epochs, settings.lr, rng)
        encoder.requires_grad_(True)
        self._train(x_arch, x_recipe, target, settings, settings.finetune_epochs, settings.reduced_lr, rng)
        encoder.requires_grad_(False)
        head.requires_grad_(False)
        return self

    def _train(
        self,
        x_arch: Tensor,
        x_recipe: Tensor,
        target: Tensor,
        settings: PredictorSettings,
        epochs: int,
        lr: float,
        rng: torch.Generator,
    ) -> None:
        parameters = [p for p in (*self.encoder.parameters(), *self.head.parameters()) if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=settings.weight_decay, foreach=True)
        for _ in range(epochs):
            for rows in torch.randperm(len(target), generator=rng).split(settings.batch):
                loss = F.huber_loss(self._forward(x_arch[rows], x_recipe[rows]), target[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def _forward(self, x_arch: Tensor, x_recipe: Tensor) -> Tensor:
        return self.head(torch.cat([self.encoder(x_arch), x_recipe], dim=1))[:, 0]  # type: ignore[no-any-return]

    def predict(self, x_arch: Tensor, x_recipe: Tensor) -> Tensor:
        """Return the predicted accuracy [n]."""
        with torch.no_grad():
            return self._forward(x_arch, x_recipe).double() * self.scale + self.centre

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors by name, to be saved."""
        tensors = {f"encoder.{key}": value for key, value in self.encoder.state_dict().items()}
        tensors |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {
            f"{prefix}{key}": value for key, value in (tensors | {"centre": self.centre, "scale": self.scale}).items()
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], prefix: str, columns: tuple[int, int], settings: PredictorSettings
    ) -> NetworkHead:
        """Restore what `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor has another shape.
        """
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        encoder, head = _fresh(*columns, settings)
        for name, module in (("encoder.", encoder), ("head.", head)):
            module.load_state_dict({k.removeprefix(name): v for k, v in own.items() if k.startswith(name)})
        return cls(encoder.eval(), head, own["centre"], own["scale"])


def _fresh(arch: int, recipe: int, settings: PredictorSettings) -> tuple[nn.Sequential, nn.Sequential]:
    hidden = settings.head_width
    head = nn.Sequential(nn.Linear(settings.width + recipe, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    return new_encoder(arch, settings), head
