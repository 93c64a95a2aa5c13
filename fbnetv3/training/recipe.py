"""The training recipe: `h` in the paper's pair (A, h), and what each of its values means to the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT, read

# The types check a value when a recipe is made, whether it comes from a file, from --set or from a search. The upper bounds
# are far above any training: what exceeds them is a slip of the keyboard, which would otherwise run for ever.
MOST_EPOCHS, MOST_IMAGES, MOST_STEP_EPOCHS = 10**6, 10**7, 10**9
LR_SCALES = {"linear": 1.0, "sqrt": 0.5}  # exponents of the factor by which a batch grows
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Epochs = Annotated[float, Field(ge=0.0, le=MOST_EPOCHS)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

_OFF = {"class_weights": "none", "layer_decay": 1.0, "frozen_stages": 0}  # fields that earlier versions did not have


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """All values of one training. Those in the last line of Table 2 are searched.

    `lr` is the learning rate after warm-up, as the optimizer gets it. The factor 4 that Table 2 gives SGD is applied by the
    search space, not here. A value without a meaning under another value is ignored (`alpha` under SGD, `step_epochs` under
    another schedule than "step").
    """

    optimizer: Literal["rmsprop", "rmsprop_tf", "sgd"]  # torch's RMSprop, timm's RMSpropTF, torch's SGD
    lr: Positive
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]  # with those of the warm-up
    batch_size: Annotated[int, Field(ge=2, le=MOST_IMAGES)]  # images of a step, over all processes
    momentum: Rate = 0.9
    nesterov: bool = False  # only for SGD
    alpha: Rate = 0.9  # RMSProp: smoothing of the squared gradient
    eps: Positive = 1e-3  # RMSProp: outside the root in torch's version, inside in TensorFlow's
    weight_decay: NonNegative = 0.0  # L2
    decay_norm_bias: bool = True  # weight decay also for norms and biases
    warmup_epochs: Epochs = 0.0  # the rate grows linearly, with every step
    warmup_lr: NonNegative | None = None  # rate of the first step; None: lr / (warm-up steps + 1)
    schedule: Literal["exponential", "cosine", "step"] = "exponential"  # after warm-up
    lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] = (
        1.0  # factor per epoch, or under "step" per `step_epochs` epochs
    )
    step_epochs: Annotated[int, Field(ge=1, le=MOST_STEP_EPOCHS)] = 30
    mixup: NonNegative = (
        0.0  # alpha of Beta(alpha, alpha), from which every batch draws one weight; 0 switches mixup off
    )
    dropout: Rate = 0.0  # before the classifier
    stochastic_depth: Rate = 0.0  # rate of the last block; it grows linearly with depth
    ema: bool = False  # report the moving average of the weights
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999  # per step
    label_smoothing: Rate = 0.0
    # fbnetv3.training.data.augment describes them.
    augmentation: Literal["none", "flip", "crop_flip", "resized_crop_flip", "autoaugment"] = "none"
    distillation: Rate = 0.0  # weight of the distillation loss; the cross entropy has the rest
    distillation_temperature: Positive = 1.0
    sync_bn: bool = False  # batch norms see the batches of all processes
    clip_norm: NonNegative = 0.0  # largest norm of the gradient of all parameters together; 0 switches clipping off
    # "balanced": an image counts the more in the loss, the fewer images its class has.
    class_weights: Literal["none", "balanced"] = "none"
    # fbnetv3.training.network.depth says what layers and stages are.
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # factor of the rate from a layer to the one before it
    frozen_stages: Annotated[int, Field(ge=0)] = 0  # the stem and so many stages keep weights and statistics

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        # torch would notice this only when it makes the optimizer, after the images have been read.
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov is true and momentum 0.0; Nesterov's SGD needs a momentum above 0")
        if self.schedule == "cosine" and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}; schedule cosine needs fewer than the {self.epochs} epochs"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, those of later versions only where they are switched on.

        Checkpoints and searches of earlier versions know a recipe by this data, and have to know it again.
        """
        return {key: value for key, value in dataclasses.asdict(self).items() if (key, value) not in _OFF.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Read a recipe from plain data.

        Args:
            where: what is being read; the messages start with it.

        Raises:
            InputError: an unknown or missing key, a wrong type, a value out of range, or values that contradict each other.
                The message names the key, the value and the rule.
        """
        return read(cls, data, where)

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with other values. They are checked like those of a new recipe."""
        return Recipe.from_dict(self.to_dict() | changes)

    def at_batch_size(self, batch_size: int, scale_lr: str | None = None) -> Recipe:
        """Return the recipe for batches of another size.

        Args:
            scale_lr: how `lr` and `warmup_lr` change with the batch: `linear`, by the same factor, as is usual for SGD;
                `sqrt`, by the factor's square root, as is usual for optimizers that divide by the size of the gradient, such
                as RMSProp; None leaves them as they are.

        Raises:
            InputError: there is no such rule, or a value is out of range.
        """
        if scale_lr not in (None, *LR_SCALES):
            raise InputError(f"scale_lr is {scale_lr!r}; allowed: {', '.join(LR_SCALES)}")
        factor = 1.0 if scale_lr is None else (batch_size / self.batch_size) ** LR_SCALES[scale_lr]
        warmup_lr = None if self.warmup_lr is None else self.warmup_lr * factor
        return self.replace(batch_size=batch_size, lr=self.lr * factor, warmup_lr=warmup_lr)

    def stretched(self, factor: int) -> Recipe:
        """Return the recipe with `factor` times as many epochs and the same schedule: "slower learning rate decay", 4.1.

        The warm-up keeps its length.
        """
        return self.lasting(self.epochs * factor)

    def lasting(self, epochs: int) -> Recipe:
        """Return the recipe with so many epochs and the same schedule. The warm-up keeps its length."""
        factor = epochs / self.epochs
        if self.schedule == "exponential":
            return self.replace(epochs=epochs, lr_decay=self.lr_decay ** (1 / factor))
        return self.replace(epochs=epochs, step_epochs=max(1, round(self.step_epochs * factor)))
