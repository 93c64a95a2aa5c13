"""HPOBench's MLPs (Eggensperger et al., 2021): 30,000 pairs of an MLP and a recipe on eight OpenML sets, 5 trainings each.

Depth and width are the architecture; rate, batch and L2 penalty are the recipe. FLOPs are the multiply-adds of the linear
layers: i*w + (depth - 1)*w*w + w*o. Inputs `i` are the attributes of the data set. Outputs `o` are those that scikit-learn
makes: one for two classes, otherwise one for each class. The file has neither attributes nor classes: they were written down
from knowledge of OpenML, and not compared with it. The networks read categorical attributes one-hot, and the file does
not say how many columns that made. So the costs on australian, car and credit_g are those of networks with fewer inputs.
"""

from __future__ import annotations

import numpy as np

from fbnetv3.search.real_tables.wheel import SOURCE, make_table, read_pickle, span
from fbnetv3.search.space.table import TableSpace

SETS = {  # attributes and classes
    "australian": (14, 2),
    "blood_transfusion": (4, 2),
    "car": (6, 4),
    "credit_g": (20, 2),
    "kc1": (21, 2),
    "phoneme": (5, 2),
    "segment": (19, 7),
    "vehicle": (18, 4),
}
DEPTHS = (1, 2, 3)
WIDTHS = (16, 25, 40, 64, 101, 161, 256, 406, 645, 1024)
COORDINATES = (  # in the order of the digits of a key
    span(
        "alpha",
        (
            *(1e-8, 7.742637e-8, 5.994842e-7, 4.641589e-6, 3.5938137e-5, 2.7825593e-4),
            *(2.1544348e-3, 1.6681006e-2, 1.2915497e-1, 1.0),
        ),
        arch=False,
    ),
    span("batch_size", (4, 6, 10, 16, 25, 40, 64, 101, 161, 256), arch=False),
    span("depth", DEPTHS, arch=True, log=False),
    span(
        "lr",
        (
            *(1e-5, 3.5938137e-5, 1.2915497e-4, 4.641589e-4, 1.6681006e-3, 5.9948424e-3),
            *(2.1544347e-2, 7.742637e-2, 2.7825594e-1, 1.0),
        ),
        arch=False,
    ),
    span("width", WIDTHS, arch=True),
)


def read_mlp(content: bytes, data: str) -> TableSpace:
    """Return the table of one data set from the content of its pickle.

    Raises:
        InputError: the content is no such table.
    """
    index, trainings, metrics = read_pickle(content, COORDINATES, ("val_acc",))
    depth, width = np.array(DEPTHS)[index[:, 2]], np.array(WIDTHS)[index[:, 4]]
    inputs, classes = SETS[data]
    outputs = 1 if classes == 2 else classes
    flops = inputs * width + (depth - 1) * width**2 + width * outputs
    facts = {
        "data": f"HPOBench MLP {data}: an OpenML set with {inputs} attributes and {classes} classes",
        "splits": "test 10%, of the rest validation 33% and training 67%; the accuracies are those of validation",
        "metric": "the file's val_acc in percent. It is a balanced accuracy: networks that always answer with one class have "
        "exactly 100 / classes",
        "costs": f"FLOPs: multiply-adds of the linear layers with {inputs} inputs, categorical attributes not yet one-hot; "
        "params: their weights and biases",
        "licence": "Apache-2.0 (HPOBench, and the file)",
        "citation": "Eggensperger et al., HPOBench: A Collection of Reproducible Multi-Fidelity Benchmark Problems for HPO, "
        "arXiv:2109.06716, 2021",
        "source": SOURCE,
    }
    costs = {"flops": flops, "params": flops + depth * width + outputs}
    acc1 = np.clip(100.0 * metrics["val_acc"], 0.0, 100.0)
    return make_table(f"mlp_{data}", classes, COORDINATES, index, trainings, acc1, costs, facts)
