"""A small network, few images, and a recipe in which everything random is on, so that a difference anywhere shows."""

import dataclasses

import torch

from fbnetv3 import Arch, Block, build_model
from fbnetv3.training.data.memory import Split
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.engine import seeded
from fbnetv3.training.recipe import Recipe

ARCH = Arch("small", 28, Block("conv", 8, k=3, s=4), ((Block("ir", 8, k=3, n=2),),), Block("pool", 16, e=2))
FULL = fashion_mnist()


def first(split, count):
    return Split(split.images[:count], split.labels[:count])


DATA = dataclasses.replace(FULL, train=first(FULL.train, 256), val=first(FULL.val, 100))
RECIPE = Recipe(
    optimizer="rmsprop",
    lr=0.01,
    epochs=3,
    batch_size=50,
    warmup_epochs=0.5,
    lr_decay=0.6,
    mixup=0.3,
    dropout=0.2,
    stochastic_depth=0.3,
    ema=True,
    ema_decay=0.9,
    label_smoothing=0.1,
    augmentation="crop_flip",
    weight_decay=1e-4,
)
# What makes several processes, or several parts of a batch, differ from one.
PLAIN = {"mixup": 0.0, "dropout": 0.0, "stochastic_depth": 0.0, "batch_size": 64, "augmentation": "none"}


def new_model(recipe=RECIPE, seed=5):
    return seeded(lambda: build_model(ARCH, 10, 1, recipe.dropout, recipe.stochastic_depth), seed)


def same(a, b):
    """Whether two networks are equal to the last bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def freeze_norms(model):
    """Keep batch norms in eval mode, whatever the loop does: they are what depends on the other images of a batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module
            module.training = False
    return model
