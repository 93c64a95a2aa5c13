"""FCNet (Klein and Hutter, 2019): 62,208 pairs of a network with two hidden layers and a recipe, on four regression sets.

Every pair was trained 4 times. Units and activations are the architecture, everything else is the recipe. A network of `i`
inputs with `a` and `b` units has i*a + a*b + b multiply-adds, and a + b + 1 biases more parameters. The sizes in the file are
compared with that.
"""

from __future__ import annotations

import numpy as np

from fbnetv3.search.real_tables.wheel import SOURCE, choice, make_table, read_pickle, right_sizes, span
from fbnetv3.search.space.space import Floats
from fbnetv3.search.space.table import TableSpace

INPUTS = {"protein_structure": 9, "naval_propulsion": 15, "parkinsons_telemonitoring": 20, "slice_localization": 380}
UNITS = (16, 32, 64, 128, 256, 512)
COORDINATES = (  # in the order of the digits of a key
    choice("activation_1", ("relu", "tanh"), arch=True),
    choice("activation_2", ("relu", "tanh"), arch=True),
    span("batch_size", (8, 16, 32, 64), arch=False),
    span("dropout_1", (0.0, 0.3, 0.6), arch=False, log=False),
    span("dropout_2", (0.0, 0.3, 0.6), arch=False, log=False),
    span("lr", (5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1), arch=False),
    choice("schedule", ("cosine", "const"), arch=False),
    span("units_1", UNITS, arch=True),
    span("units_2", UNITS, arch=True),
)
LINEAR = "protein_structure"  # its errors are within a factor of ten, those of the others over many powers of ten


def read_fcnet(content: bytes, data: str) -> TableSpace:
    """Return the table of one data set from the content of its pickle.

    Raises:
        InputError: the content is no such table.
    """
    index, trainings, metrics = read_pickle(content, COORDINATES, ("val_loss", "model_size"))
    first, second = np.array(UNITS)[index[:, -2]], np.array(UNITS)[index[:, -1]]
    flops = INPUTS[data] * first + first * second + second
    params = flops + first + second + 1
    right_sizes(metrics["model_size"], params)
    score = "100 * (1 - MSE)" if data == LINEAR else "10 - 10 * log10(MSE)"
    facts = {
        "data": f"FCNet {data}: a regression set with {INPUTS[data]} inputs",
        "splits": "training, validation and test, whose sizes the file does not say; the accuracies are those of validation",
        "metric": f"score = {score} of the mean squared error on validation after 100 epochs, at least 0 and at most 100; "
        "no percent of anything",
        "costs": "FLOPs: multiply-adds of the linear layers; params: their weights and biases",
        "licence": "BSD-3-Clause (FCNet), Apache-2.0 (the file)",
        "citation": "Klein and Hutter, Tabular Benchmarks for Joint Architecture and Hyperparameter Optimization, "
        "arXiv:1905.04970, 2019",
        "source": SOURCE,
    }
    acc1 = _score(metrics["val_loss"], data == LINEAR)
    costs = {"flops": flops, "params": params}
    # A regression has no classes. With 1,000, a training without a finite loss counts as 0.1.
    return make_table(f"fcnet_{data}", 1000, COORDINATES, index, trainings, acc1, costs, facts)


def _score(loss: Floats, linear: bool) -> Floats:
    """Return the score of mean squared errors; nan where a training has no finite one."""
    finite = np.where(np.isfinite(loss) & (loss > 0), loss, np.nan)
    return np.clip(100.0 * (1.0 - finite) if linear else 10.0 - 10.0 * np.log10(finite), 0.0, 100.0)
