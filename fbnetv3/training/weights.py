"""Weight files that explain themselves: network, classes and preprocessing travel with the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError
from fbnetv3.files import load_torch, save_torch
from fbnetv3.model import FBNetV3, build_model
from fbnetv3.training.data import ImageData, normalise

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with what it takes to classify a picture."""

    model: FBNetV3
    in_chans: int
    classes: tuple[str, ...]
    mean: float
    std: float

    @torch.no_grad()
    def predict(self, image: Tensor) -> list[tuple[str, float]]:
        """Classes and probabilities of one uint8 image [c, h, w] of the network's size, likeliest first."""
        logits = self.model.eval()(normalise(image[None], self.mean, self.std))
        chances = logits.softmax(1)[0]
        return [(self.classes[i], float(chances[i])) for i in chances.argsort(descending=True).tolist()]


def save_weights(path: str | Path, arch: Arch, model: nn.Module, data: ImageData) -> None:
    """Write the weights of a trained network, atomically."""
    content = {
        "schema": SCHEMA,
        "arch": arch.to_dict(),
        "in_chans": data.in_chans,
        "classes": list(data.classes),
        "mean": data.mean,
        "std": data.std,
        "state_dict": {key: value.contiguous() for key, value in model.state_dict().items()},
    }
    save_torch(path, content)


def load_weights(path: str | Path, arch: Arch | None = None) -> Classifier:
    """Read a weight file; `arch`, when given, must be the network that the weights belong to.

    Raises:
        InputError: a missing or damaged file, or weights of another network.
    """
    keys = ("schema", "arch", "in_chans", "classes", "mean", "std", "state_dict")
    content = load_torch(path, "weight file", keys)
    if content["schema"] != SCHEMA:
        raise InputError(f"{path}: schema is {content['schema']!r}; this version reads {SCHEMA}")
    own = Arch.from_dict(content["arch"], f"{path}: arch")
    if arch is not None and arch != own:
        raise InputError(
            f"{path} holds the weights of {own.name}, another network than {arch.name}; give the matching files"
        )
    model = build_model(own, len(content["classes"]), content["in_chans"])
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise InputError(
            f"{path} is damaged: {' '.join(str(error).split())[:150]}; give a file that fbnetv3 wrote"
        ) from None
    return Classifier(model.eval(), content["in_chans"], tuple(content["classes"]), content["mean"], content["std"])
