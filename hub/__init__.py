"""Weights and the entry points to them: the registry, safe loading, conversion, torch.hub and timm, publishing."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.hub.convert import convert_mobile_cv as convert_mobile_cv
    from fbnetv3.hub.convert import convert_to_timm as convert_to_timm
    from fbnetv3.hub.load import create_model as create_model
    from fbnetv3.hub.load import load_weights as load_weights
    from fbnetv3.hub.publish import publish_weights as publish_weights
    from fbnetv3.hub.registry import Metric as Metric
    from fbnetv3.hub.registry import RegisteredWeights as RegisteredWeights
    from fbnetv3.hub.registry import Registry as Registry
    from fbnetv3.hub.registry import read_registry as read_registry

_MODULES = {
    "Metric": "fbnetv3.hub.registry",
    "RegisteredWeights": "fbnetv3.hub.registry",
    "Registry": "fbnetv3.hub.registry",
    "convert_mobile_cv": "fbnetv3.hub.convert",
    "convert_to_timm": "fbnetv3.hub.convert",
    "create_model": "fbnetv3.hub.load",
    "load_weights": "fbnetv3.hub.load",
    "publish_weights": "fbnetv3.hub.publish",
    "read_registry": "fbnetv3.hub.registry",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
