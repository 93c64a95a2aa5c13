"""The losses of an epoch's steps, which stay on the device until they are needed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fbnetv3.training.recipe import Recipe


class DivergedError(RuntimeError):
    """The loss or a weight became infinite or NaN. The message holds the place and the recipe."""

    @classmethod
    def at(cls, what: str, recipe: Recipe) -> DivergedError:
        """Return the error with what happened and where, and the recipe."""
        return cls(f"{what}; recipe {json.dumps(recipe.to_dict())}")


@dataclass(eq=False)
class StepLosses:
    """The losses of an epoch in this process.

    To fetch a loss is to wait until the device has finished the step. A GPU that is waited for has no work until the host has
    prepared the next step, so losses are fetched rarely, many at once.

    Attributes:
        recipe: for the message of an error.
        total: sum of the losses that were fetched.
        steps: number of the steps that they are of.
        last: the one that was fetched last; None before the first.
    """

    recipe: Recipe
    total: float = 0.0
    steps: int = 0
    last: float | None = None
    waiting: list[tuple[Tensor, str]] = field(default_factory=list)

    def add(self, parts: Tensor, where: str) -> None:
        """Add the losses float32 [parts] of the equal parts of a batch. `where` names the step, for the message of an error."""
        self.waiting.append((parts, where))

    def fetch(self) -> float:
        """Fetch the losses that were added since the last time. Return the sum of all losses.

        Raises:
            DivergedError: a loss is infinite or NaN. The message names the first step with such a loss.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return self.total
        rows = torch.stack([parts for parts, _ in waiting]).tolist()  # one message from the device
        for row, (_, where) in zip(rows, waiting, strict=True):
            loss = 0.0
            # A loop, because `sum` rounds in another way since Python 3.12. Python's floats are float64.
            for part in row:
                loss += part / len(row)
            if not math.isfinite(loss):
                raise DivergedError.at(f"the loss is {loss} at {where}", self.recipe)
            self.total += loss
            self.last = loss
        self.steps += len(rows)
        return self.total
