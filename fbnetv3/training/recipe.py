"""The training recipe: what `h` in the paper's pair (A, h) is, and what each value means to the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.schema import STRICT, read

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Values of one training; the searched ones are those of Table 2's last line.

    `lr` is the rate after warm-up, as the optimizer gets it: the factor 4 that Table 2 gives SGD is applied by the search
    space, not here.
    """

    optimizer: Literal[
        "rmsprop", "rmsprop_tf", "sgd"
    ]  # torch's RMSprop, timm's RMSpropTF, torch's SGD with Nesterov off
    lr: Positive
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    momentum: Rate = 0.9
    weight_decay: NonNegative = 0.0  # L2, on all parameters
    warmup_epochs: NonNegative = 0.0  # linear from 0, per step
    lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # factor per epoch after warm-up
    mixup: NonNegative = 0.0  # alpha of Beta(alpha, alpha), one draw a batch; 0 is off
    dropout: Rate = 0.0  # before the classifier
    stochastic_depth: Rate = 0.0  # of the last block; linear in depth
    ema: bool = False  # report the moving average of the weights
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999  # per step
    label_smoothing: Rate = 0.0
    augmentation: Literal["none", "flip", "crop_flip"] = "none"  # see fbnetv3.training.augment

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Read strictly.

        Raises:
            InputError: unknown or missing key, wrong type, value out of range; the message names key, value and rule.
        """
        return read(cls, data, where)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other values, checked like a new recipe."""
        return Recipe.from_dict(self.to_dict() | changes)

    def stretched(self, factor: int) -> Recipe:
        """The same schedule over `factor` times as many epochs: 'slower learning rate decay' of section 4.1."""
        return self.replace(epochs=self.epochs * factor, lr_decay=self.lr_decay ** (1 / factor))
