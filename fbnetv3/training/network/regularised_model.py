"""A model with a recipe's dropout and stochastic depth in it, and in words how they got there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from fbnetv3.errors import InputError

NOT_APPLIED = "not applied"


@dataclass(frozen=True, eq=False)
class RegularisedModel:
    """A model, and in words how each regulariser got into it: "off" for a rate of 0."""

    model: nn.Module
    name: str  # such as "timm:resnet50"; of a custom module its class
    dropout: str
    stochastic_depth: str
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both rates could be applied."""
        return not any(words.startswith(NOT_APPLIED) for words in (self.dropout, self.stochastic_depth))

    def summary(self) -> str:
        """Return a few lines for the user: the model, both regularisers, and the notes."""
        rows = {"model": self.name, "dropout": self.dropout, "stochastic depth": self.stochastic_depth}
        lines = [f"{key}: {value}" for key, value in rows.items()]
        return "\n".join((*lines, *(f"note: {note}" for note in self.notes)))

    def checked(self, strict: bool) -> RegularisedModel:
        """Return this object.

        Raises:
            InputError: `strict`, and a rate could not be applied.
        """
        if strict and not self.complete:
            raise InputError(f"the recipe cannot be applied to this model completely:\n{self.summary()}")
        return self


def few(names: Sequence[str], most: int = 4) -> str:
    """Return the first names as text, and how many more there are. The name "" is the model itself."""
    shown = ", ".join(name or "the model itself" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
