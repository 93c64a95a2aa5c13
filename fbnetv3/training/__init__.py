"""How a network is trained: the recipe and its meaning, images, networks with regularisation, and one seeded loop."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.training.accuracy import Accuracy as Accuracy
    from fbnetv3.training.accuracy import measure as measure
    from fbnetv3.training.data.load import load_data as load_data
    from fbnetv3.training.data.packaged import fashion_mnist as fashion_mnist
    from fbnetv3.training.data.protocol import Data as Data
    from fbnetv3.training.engine import Engine as Engine
    from fbnetv3.training.engine import cpu_threads as cpu_threads
    from fbnetv3.training.engine import seeded as seeded
    from fbnetv3.training.loop import Trained as Trained
    from fbnetv3.training.loop import fit as fit
    from fbnetv3.training.network.factory import build as build
    from fbnetv3.training.network.regularise import apply_regularisation as apply_regularisation
    from fbnetv3.training.process_rank import ProcessRank as ProcessRank
    from fbnetv3.training.recipe import Recipe as Recipe
    from fbnetv3.training.trainer import DivergedError as DivergedError

_MODULES = {
    "Accuracy": "fbnetv3.training.accuracy",
    "Data": "fbnetv3.training.data.protocol",
    "DivergedError": "fbnetv3.training.trainer",
    "Engine": "fbnetv3.training.engine",
    "ProcessRank": "fbnetv3.training.process_rank",
    "Recipe": "fbnetv3.training.recipe",
    "Trained": "fbnetv3.training.loop",
    "apply_regularisation": "fbnetv3.training.network.regularise",
    "build": "fbnetv3.training.network.factory",
    "cpu_threads": "fbnetv3.training.engine",
    "fashion_mnist": "fbnetv3.training.data.packaged",
    "fit": "fbnetv3.training.loop",
    "load_data": "fbnetv3.training.data.load",
    "measure": "fbnetv3.training.accuracy",
    "seeded": "fbnetv3.training.engine",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
