"""A training that takes a fraction of a second: random images of two classes, a network of two blocks, and a short recipe."""

import numpy as np
import torch

from fbnetv3 import Arch, Block
from fbnetv3.search.trial import Candidate
from fbnetv3.training.data.memory import ImageData, Split
from fbnetv3.training.recipe import Recipe


def split(n, seed):
    """Images whose brightness says the class, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 200, (n, 1, 8, 8)) + 55 * labels[:, None, None, None]
    return Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))


DATA = ImageData("noise", ("dark", "bright"), 0.5, 0.25, split(64, 0), split(40, 1), split(10, 2))
ARCH = Arch("small", 8, Block("conv", 8, k=3, s=2), ((Block("ir", 8, k=3, n=2),),), Block("pool", 16, e=2))
# Everything random is on, so that a difference anywhere shows.
RECIPE = Recipe("sgd", 0.05, epochs=2, batch_size=16, mixup=0.2, dropout=0.2, stochastic_depth=0.3, augmentation="flip")
CANDIDATE = Candidate(ARCH, RECIPE)
