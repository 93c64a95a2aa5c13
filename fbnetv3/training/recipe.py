"""The training recipe: what `h` in the paper's pair (A, h) is, and what each value means to the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from fbnetv3.schema import STRICT, read

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Values of one training; the searched ones are those of Table 2's last line.

    `lr` is the rate after warm-up, as the optimizer gets it: the factor 4 that Table 2 gives SGD is applied by the search
    space, not here. A value that another one switches off (`alpha` under SGD, `step_epochs` without "step") is ignored.
    """

    optimizer: Literal["rmsprop", "rmsprop_tf", "sgd"]  # torch's RMSprop, timm's RMSpropTF, torch's SGD
    lr: Positive
    epochs: Annotated[int, Field(ge=1)]  # in all, warm-up included
    batch_size: Annotated[int, Field(ge=2)]  # over all processes
    momentum: Rate = 0.9
    nesterov: bool = False  # SGD's
    alpha: Rate = 0.9  # RMSProp's smoothing of the squared gradient
    eps: Positive = 1e-3  # RMSProp's: outside the root in torch's, inside in TensorFlow's
    weight_decay: NonNegative = 0.0  # L2
    decay_norm_bias: bool = True  # also on norms and biases
    warmup_epochs: NonNegative = 0.0  # linear, per step
    warmup_lr: NonNegative | None = None  # of the first step; None: lr / (warm-up steps + 1)
    schedule: Literal["exponential", "cosine", "step"] = "exponential"  # after warm-up
    lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # factor per epoch, or per `step_epochs` of "step"
    step_epochs: Annotated[int, Field(ge=1)] = 30
    mixup: NonNegative = 0.0  # alpha of Beta(alpha, alpha), one draw a batch; 0 is off
    dropout: Rate = 0.0  # before the classifier
    stochastic_depth: Rate = 0.0  # of the last block; linear in depth
    ema: bool = False  # report the moving average of the weights
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999  # per step
    label_smoothing: Rate = 0.0
    # See fbnetv3.training.data.augment.
    augmentation: Literal["none", "flip", "crop_flip", "resized_crop_flip", "autoaugment"] = "none"
    distillation: Rate = 0.0  # weight of the distillation loss; cross entropy has the rest
    distillation_temperature: Positive = 1.0
    sync_bn: bool = False  # batch statistics over all processes
    clip_norm: NonNegative = 0.0  # largest norm of the whole gradient; 0 is off

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov is true and momentum 0.0; Nesterov's SGD needs a momentum above 0")
        if self.schedule == "cosine" and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}; schedule cosine needs fewer than the {self.epochs} epochs"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Read strictly.

        Raises:
            InputError: unknown or missing key, wrong type, value out of range, values that contradict each other; the
                message names key, value and rule.
        """
        return read(cls, data, where)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other values, checked like a new recipe."""
        return Recipe.from_dict(self.to_dict() | changes)

    def stretched(self, factor: int) -> Recipe:
        """The same schedule over `factor` times as many epochs: 'slower learning rate decay' of section 4.1."""
        if self.schedule == "exponential":
            return self.replace(epochs=self.epochs * factor, lr_decay=self.lr_decay ** (1 / factor))
        return self.replace(epochs=self.epochs * factor, step_epochs=self.step_epochs * factor)
