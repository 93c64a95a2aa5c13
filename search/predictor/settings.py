"""Settings of the accuracy predictor, and the named ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, config=STRICT)
class PredictorSettings:
    """Sizes and rates. The paper gives the two times 50 epochs and the Huber loss; the others are this package's choices.

    `head` is what predicts accuracy: `kernel` (`predictor_kernel.py`) or, as in the paper, `network`
    (`predictor_network.py`), which alone reads the fields from `head_width` on.
    """

    head: Literal["kernel", "network"] = "kernel"
    members: Count = 4  # heads, whose spread is part of the predicted deviation
    layers: Count = 3  # of the encoder
    width: Count = 128
    pretrain: bool = True  # false: a search fits the accuracy head alone, to compare with
    rich_labels: bool = True  # a search gives all statistics that it knows; false: FLOPs and parameters
    log_labels: bool = True  # learn the logarithms of the statistics as well as the statistics
    pretrain_epochs: Count = 150
    pretrain_batch: Count = 256
    pretrain_lr: Positive = 4e-2
    head_width: Count = 32
    standardise: bool = True  # accuracies for the Huber loss; false: it sees percentage points
    frozen_epochs: Annotated[int, Field(ge=0)] = 50  # encoder frozen (section 3.3)
    finetune_epochs: Annotated[int, Field(ge=0)] = 50  # everything, at the reduced rate (section 3.3)
    batch: Count = 8
    lr: Positive = 1e-2
    reduced_lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-2

    @classmethod
    def preset(cls, name: str) -> PredictorSettings:
        """Settings by name.

        Raises:
            InputError: no such preset.
        """
        if name not in PRESETS:
            raise InputError(f"unknown predictor preset {name!r}; available: {', '.join(PRESETS)}")
        return PRESETS[name]


PRESETS = {
    "default": PredictorSettings(),
    # Sections 3.1 to 3.3: one network, Huber loss on points, plain FLOPs and parameters. Layers, rates, batches: choices.
    "paper": PredictorSettings(head="network", members=1, rich_labels=False, log_labels=False, standardise=False),
}
