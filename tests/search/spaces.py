"""Search spaces that tests share: two that can be counted by hand, one of few networks, and Table 2 as a file."""

import numpy as np
import yaml

from fbnetv3.complexity import Cost
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import Coordinate, SearchSpace
from fbnetv3.search.trial import Candidate
from fbnetv3.training.recipe import Recipe

# One row of blocks: 2 x 2 x 2 x 3 rows of indices. Both widths are built as 16.
TINY = {
    "schema": 1,
    "name": "tiny",
    "about": "Countable by hand.",
    "resolution": 8,
    "in_chans": 1,
    "num_classes": 3,
    "stem": {"k": 3, "c": 8, "s": 2},
    "rows": [{"k": 3, "e": "(1, 2)/(2, 3)", "c": "(12, 16, 4)", "n": "(1, 3)", "s": 2, "se": True}],
    "head": {"e": 2, "c": 32},
    "recipe": {},
}

# 2 expansions x 7 widths, which are built as 8 16 16 24 24 32 32: 14 rows of indices, 8 different networks.
FEW = TINY | {
    "name": "few",
    "rows": [{"k": 3, "e": "(1, 2)", "c": "(8, 32, 4)", "n": 1, "s": 2, "se": False}],
}

# The paper's Table 2, word for word. Its recipe line is scaled to rates and probabilities.
TABLE2 = {
    "schema": 1,
    "name": "t2",
    "about": "Table 2",
    "resolution": "(224, 272, 8)",
    "in_chans": 3,
    "num_classes": 1000,
    "stem": {"k": 3, "c": "(16, 24, 2)", "s": 2},
    "rows": [
        {"k": [3, 5], "e": 1, "c": "(16, 24, 2)", "n": "(1, 4)", "s": 1, "se": False},
        {"k": [3, 5], "e": "(4, 7)/(2, 5)", "c": "(20, 32, 4)", "n": "(4, 7)", "s": 2, "se": False},
        {"k": [3, 5], "e": "(4, 7)/(2, 5)", "c": "(24, 48, 4)", "n": "(4, 7)", "s": 2, "se": True},
        {"k": [3, 5], "e": "(4, 7)^1/(2, 5)^2", "c": "(56, 84, 4)", "n": "(4, 8)", "s": 2, "se": False},
        {"k": [3, 5], "e": "(4, 7)^1/(2, 5)^2", "c": "(96, 144, 4)", "n": "(6, 10)", "s": 1, "se": True},
        {"k": [3, 5], "e": "(4, 7)", "c": "(180, 224, 4)", "n": "(5, 9)", "s": 2, "se": True},
        {"k": [3, 5], "e": 6, "c": "(180, 224, 4)", "n": 1, "s": 1, "se": True},
    ],
    "head": {"e": 6, "c": 1984},
    "recipe": {
        "lr": "(20, 30)e-3",
        "optimizer": ["rmsprop", "sgd"],
        "ema": [True, False],
        "dropout": "(1, 31)e-2",
        "stochastic_depth": "(10, 31)e-2",
        "mixup": "(0, 41)e-2",
        "weight_decay": "(7, 21)e-6",
    },
    "sgd_lr_factor": 4,
}


def load(folder, data):
    """The space of a file with this content."""
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return load_space(str(path))


class Counting(SearchSpace):
    """A space without networks: coordinates a and b of the architecture, from 0 to 9, and lr of the recipe, from 0 to 2.

    A candidate has 10 a + b FLOPs (2 more in the convention of fvcore) and b parameters. Values equal their indices.
    """

    trainable = False

    @classmethod
    def make(cls):
        coordinates = [Coordinate(name, tuple(range(10)), True, True, tuple(range(10))) for name in "ab"]
        coordinates.append(Coordinate("lr", (0, 1, 2), True, False, (0, 1, 2)))
        return cls("counting", "Countable by hand.", 1, 2, tuple(coordinates))

    def cost(self, index):
        return Cost(conv=10 * index[:, 0] + index[:, 1], norm=np.ones(len(index), int), weights=index[:, 1])

    def figure(self, metric, convention, index):
        return getattr(self.cost(index), metric)(convention)

    def candidate(self, row, base, name):
        return Candidate(None, base, self.values(row))

    def statistics(self, index):
        return ("flops", "params"), np.stack([self.cost(index).flops(), self.cost(index).params()], axis=1)

    def base_recipe(self, name):
        return Recipe("sgd", 0.1, 1, 2)

    @property
    def resolutions(self):
        return (8,)
