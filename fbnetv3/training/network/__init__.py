"""Networks to train: any network by name, with a recipe's dropout and stochastic depth put into it."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.training.network.branches import find_branches as find_branches
    from fbnetv3.training.network.factory import build as build
    from fbnetv3.training.network.regularise import apply_regularisation as apply_regularisation
    from fbnetv3.training.network.regularised_model import RegularisedModel as RegularisedModel

_MODULES = {
    "RegularisedModel": "fbnetv3.training.network.regularised_model",
    "apply_regularisation": "fbnetv3.training.network.regularise",
    "build": "fbnetv3.training.network.factory",
    "find_branches": "fbnetv3.training.network.branches",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
