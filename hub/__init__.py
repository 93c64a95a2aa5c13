"""Weights and the doors users come through: the registry, safe loading, conversion, torch.hub and timm, publishing."""

from fbnetv3.hub.convert import convert_mobile_cv, convert_to_timm
from fbnetv3.hub.load import create_model, load_weights
from fbnetv3.hub.registry import Registry, Weights, read_registry

__all__ = [
    "Registry",
    "Weights",
    "convert_mobile_cv",
    "convert_to_timm",
    "create_model",
    "load_weights",
    "read_registry",
]
