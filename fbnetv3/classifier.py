"""A network that classifies pictures: weights, preprocessing and class names in one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fbnetv3.model import FBNetV3
from fbnetv3.transforms import Transforms
from fbnetv3.weight_file import IMAGENET, WeightFile


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with what it takes to classify a picture."""

    model: FBNetV3
    transforms: Transforms
    classes: tuple[str, ...]

    @classmethod
    def from_weight_file(cls, file: WeightFile) -> Classifier:
        """From weights that describe themselves."""
        return cls(file.build(), file.transforms, class_names(file.classes))

    @torch.no_grad()
    def rank(self, x: Tensor) -> list[tuple[str, float]]:
        """Classes and probabilities of one input [C, H, W], likeliest first."""
        device = next(self.model.parameters()).device
        chances = self.model(x[None].to(device)).softmax(1)[0]
        return [(self.classes[i], float(chances[i])) for i in chances.argsort(descending=True).tolist()]

    def predict(self, path: str | Path) -> list[tuple[str, float]]:
        """Classes and probabilities of a picture file, likeliest first.

        Raises:
            InputError: no such file, or no picture.
        """
        return self.rank(self.transforms.open(path))


def class_names(classes: Iterable[str]) -> tuple[str, ...]:
    """Names as they are, or those of ImageNet's 1000 classes, which torchvision keeps, for `IMAGENET`."""
    if classes != IMAGENET:
        return tuple(classes)
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
