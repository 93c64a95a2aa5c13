"""Weights and the doors users come through: torch.hub entry points and conversion of released checkpoints."""

from fbnetv3.hub.convert import convert_mobile_cv

__all__ = ["convert_mobile_cv"]
