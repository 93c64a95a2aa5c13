"""Settings of the accuracy predictor, and its presets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError, available
from fbnetv3.schema import STRICT

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, config=STRICT)
class PredictorSettings:
    """Sizes and rates. The paper gives twice 50 epochs and the Huber loss; everything else is a choice of this package.

    The accuracy head is `kernel`, Gaussian processes (gaussian_process.py), or `network`, as in the paper (network.py). Only
    the network uses the fields from `head_width` on.
    """

    head: Literal["kernel", "network"] = "kernel"
    # Heads of the ensemble; their spread is part of the predicted std. Gaussian processes: draws of the hyperparameters.
    members: Count = 8
    layers: Count = 3  # hidden layers of the encoder
    width: Count = 128
    pretrain: bool = True  # false: a search fits the accuracy head alone, for comparisons
    rich_labels: bool = True  # pretrain on all statistics that a space knows; false: FLOPs and parameters alone
    log_labels: bool = True  # also learn the logarithms of the statistics
    pretrain_epochs: Count = 150
    pretrain_batch: Count = 256
    pretrain_lr: Positive = 4e-2
    head_width: Count = 32
    standardise: bool = True  # the Huber loss sees standardised accuracies; false: it sees percentage points
    frozen_epochs: Annotated[int, Field(ge=0)] = 50  # with a frozen encoder (section 3.3)
    finetune_epochs: Annotated[int, Field(ge=0)] = 50  # of all layers, at the reduced rate (section 3.3)
    batch: Count = 8
    lr: Positive = 1e-2
    reduced_lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-2

    @classmethod
    def preset(cls, name: str) -> PredictorSettings:
        """Return settings by name.

        Raises:
            InputError: no such preset.
        """
        if name not in PRESETS:
            raise InputError(f"unknown predictor preset {name!r}; {available(name, PRESETS)}")
        return PRESETS[name]


PRESETS = {
    "default": PredictorSettings(),
    # Sections 3.1 to 3.3: one network, Huber loss on percentage points, FLOPs and parameters as labels. The paper does not
    # give layers, rates and batch sizes: these are choices.
    "paper": PredictorSettings(head="network", members=1, rich_labels=False, log_labels=False, standardise=False),
}
