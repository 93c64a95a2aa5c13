"""How a network is trained: the recipe and its meaning, images, networks with regularisation, and one seeded loop."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.training.accuracy import Accuracy as Accuracy
    from fbnetv3.training.accuracy import measure as measure
    from fbnetv3.training.callbacks import Callback as Callback
    from fbnetv3.training.data.epoch import draw_epoch as draw_epoch
    from fbnetv3.training.data.load import load_data as load_data
    from fbnetv3.training.data.loaders import wrap_loaders as wrap_loaders
    from fbnetv3.training.data.packaged import fashion_mnist as fashion_mnist
    from fbnetv3.training.data.protocol import Data as Data
    from fbnetv3.training.data.protocol import class_counts as class_counts
    from fbnetv3.training.data.readers import train_transform as train_transform
    from fbnetv3.training.engine import Engine as Engine
    from fbnetv3.training.engine import cpu_threads as cpu_threads
    from fbnetv3.training.engine import seeded as seeded
    from fbnetv3.training.loop import Trained as Trained
    from fbnetv3.training.loop import fit as fit
    from fbnetv3.training.losses import Target as Target
    from fbnetv3.training.losses import balanced_weights as balanced_weights
    from fbnetv3.training.losses import loss as loss
    from fbnetv3.training.losses import mixup as mixup
    from fbnetv3.training.network.depth import freeze_stages as freeze_stages
    from fbnetv3.training.network.factory import build as build
    from fbnetv3.training.network.regularise import apply_regularisation as apply_regularisation
    from fbnetv3.training.optim import MovingAverage as MovingAverage
    from fbnetv3.training.optim import RecipeSchedule as RecipeSchedule
    from fbnetv3.training.optim import learning_rate as learning_rate
    from fbnetv3.training.optim import make_average as make_average
    from fbnetv3.training.optim import make_optimizer as make_optimizer
    from fbnetv3.training.process_rank import ProcessRank as ProcessRank
    from fbnetv3.training.recipe import Recipe as Recipe
    from fbnetv3.training.trainer import DivergedError as DivergedError
    from fbnetv3.transforms import Transforms as Transforms

_MODULES = {
    "Accuracy": "fbnetv3.training.accuracy",
    "Callback": "fbnetv3.training.callbacks",
    "Data": "fbnetv3.training.data.protocol",
    "DivergedError": "fbnetv3.training.trainer",
    "Engine": "fbnetv3.training.engine",
    "MovingAverage": "fbnetv3.training.optim",
    "ProcessRank": "fbnetv3.training.process_rank",
    "Recipe": "fbnetv3.training.recipe",
    "RecipeSchedule": "fbnetv3.training.optim",
    "Target": "fbnetv3.training.losses",
    "Trained": "fbnetv3.training.loop",
    "Transforms": "fbnetv3.transforms",
    "apply_regularisation": "fbnetv3.training.network.regularise",
    "balanced_weights": "fbnetv3.training.losses",
    "build": "fbnetv3.training.network.factory",
    "class_counts": "fbnetv3.training.data.protocol",
    "cpu_threads": "fbnetv3.training.engine",
    "draw_epoch": "fbnetv3.training.data.epoch",
    "fashion_mnist": "fbnetv3.training.data.packaged",
    "fit": "fbnetv3.training.loop",
    "freeze_stages": "fbnetv3.training.network.depth",
    "learning_rate": "fbnetv3.training.optim",
    "load_data": "fbnetv3.training.data.load",
    "loss": "fbnetv3.training.losses",
    "make_average": "fbnetv3.training.optim",
    "make_optimizer": "fbnetv3.training.optim",
    "measure": "fbnetv3.training.accuracy",
    "mixup": "fbnetv3.training.losses",
    "seeded": "fbnetv3.training.engine",
    "train_transform": "fbnetv3.training.data.readers",
    "wrap_loaders": "fbnetv3.training.data.loaders",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
