"""A network that classifies images, with its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.networks.weight_file import IMAGENET, WeightFile
from fbnetv3.transforms import Transforms


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with everything that classifying an image takes. `classes[k]` is the name of logit k."""

    model: nn.Module
    transforms: Transforms
    classes: tuple[str, ...]

    @classmethod
    def from_weight_file(cls, file: WeightFile) -> Classifier:
        """Build the classifier that a weight file describes."""
        return cls(file.build(), file.transforms, class_names(file.classes))

    @torch.no_grad()
    def rank(self, x: Tensor) -> list[tuple[str, float]]:
        """Return all classes with their probabilities for one input [C, H, W], the most probable class first.

        Raises:
            InputError: the logits are not finite, so that no class is the most probable one.
        """
        device = next(self.model.parameters()).device
        # The rest is a few numbers. On a GPU, every one that is looked at would be waited for.
        logits = self.model(x[None].to(device)).cpu()
        check_logits(logits)
        probabilities = logits.softmax(1)[0]
        order = probabilities.argsort(descending=True)
        return [(self.classes[i], p) for i, p in zip(order.tolist(), probabilities[order].tolist(), strict=True)]

    def predict(self, path: str | Path) -> list[tuple[str, float]]:
        """Return all classes with their probabilities for an image file, the most probable class first.

        Raises:
            InputError: there is no such file, it is not a readable image, or the logits are not finite.
        """
        x = self.transforms.open(path)
        try:
            return self.rank(x)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def class_names(classes: Iterable[str]) -> tuple[str, ...]:
    """Return class names unchanged, or for `IMAGENET` the names of ImageNet's 1000 classes."""
    if classes != IMAGENET:
        return tuple(classes)
    # torchvision has the names in its package, so they need not be in this one.
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def check_logits(logits: Tensor) -> None:
    """Raise `InputError` if logits are not finite, so that no class is the most probable one."""
    if not logits.isfinite().all():
        raise InputError(
            "the network's logits are not finite; its weights are damaged or too large: give other weights"
        )
