"""The gradient scaler of fp16, whose numbers are too coarse near 0 for small gradients."""

from __future__ import annotations

from typing import Any

import torch

from fbnetv3.device import Precision

# The scale starts at 2**16 and halves with every infinite gradient: after 31 of them in a row it is smaller than this.
LEAST_SCALE = 2.0**-14


class Scaler(torch.amp.GradScaler):
    """torch's gradient scaler, which counts the steps that it leaves out. In other precisions than fp16 it changes nothing.

    It multiplies the loss by a scale, and divides the gradients by it. A step with infinite gradients is left out, and the next
    scale is smaller.
    """

    def __init__(self, precision: Precision = "fp32", device: str = "cpu") -> None:
        super().__init__(device, enabled=precision == "fp16")
        self.skipped = 0

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Make the optimizer's step, unless a gradient is infinite or NaN. In fp16 this waits for the device, as torch does."""
        if not self.is_enabled():
            return super().step(optimizer, *args, **kwargs)
        made: list[bool] = []
        # The scaler decides without telling anybody, and its scale also changes for other reasons.
        hook = optimizer.register_step_post_hook(lambda *_: made.append(True))
        try:
            result = super().step(optimizer, *args, **kwargs)
        finally:
            hook.remove()
        self.skipped += not made
        return result

    def vanished(self) -> bool:
        """Whether the scale fell to nothing: no smaller scale will make the gradients finite."""
        return self.is_enabled() and self.get_scale() < LEAST_SCALE
