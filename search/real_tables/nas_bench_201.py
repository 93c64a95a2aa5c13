"""NAS-Bench-201 (Dong and Yang, 2020): 15,625 cells of six operations on three image sets, 1 to 3 trainings each; no recipe.

A network is a 3x3 convolution to 16 channels, three stages of 5 equal cells with 16, 32 and 64 channels, a residual block of
stride 2 before the second and the third stage, and a classifier. Convolutions have no bias, and a batch norm with two numbers
for each channel. The sizes in the file are compared with this closed form. In each set, 294 trainings of 204 cells have the
size of another cell. They are left out, and every cell keeps at least one training. The file does not say what the validation
images are: that is written down from knowledge of the paper.
"""

from __future__ import annotations

import numpy as np

from fbnetv3.search.real_tables.wheel import SOURCE, choice, make_table, read_pickle, right_sizes
from fbnetv3.search.space.space import IntMatrix, IntVector
from fbnetv3.search.space.table import TableSpace

SETS = {  # classes, side of the images, and what the set is
    "cifar10": (10, 32, "CIFAR-10", "half of the training images is training, half is validation"),
    "cifar100": (100, 32, "CIFAR-100", "all training images; half of the test images is validation"),
    "imagenet": (120, 16, "ImageNet16-120", "all training images; half of the test images is validation"),
}
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
KERNELS = np.array([0, 0, 1, 9, 0])  # weights of a convolution for each pair of channels, by operation
COORDINATES = tuple(choice(f"op{i}", OPERATIONS, arch=True) for i in range(6))
STAGES, CELLS = (16, 32, 64), 5


def read_nas_bench_201(content: bytes, data: str) -> TableSpace:
    """Return the table of one image set from the content of its pickle.

    Raises:
        InputError: the content is no such table.
    """
    index, _, metrics = read_pickle(content, COORDINATES, ("val_acc", "model_size"))
    classes, side, title, splits = SETS[data]
    flops, params = costs(index, side, classes)
    right = right_sizes(1e6 * metrics["model_size"], params)
    # The trainings that stay move to the front, in their order.
    front = np.argsort(~right, axis=1, kind="stable")
    acc1 = np.take_along_axis(np.where(right, metrics["val_acc"], np.nan), front, axis=1)
    facts = {
        "data": f"NAS-Bench-201 on {title}, images of {side} x {side}, {classes} classes",
        "splits": f"{splits}; the accuracies are those of validation",
        "metric": "accuracy in percent after 200 epochs",
        "costs": "FLOPs: multiply-adds of convolutions and of the classifier; params: all, with batch norm",
        "licence": "MIT (NAS-Bench-201), Apache-2.0 (the file)",
        "citation": "Dong and Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020",
        "source": SOURCE,
    }
    labels = {"flops": flops, "params": params}
    return make_table(f"nas_bench_201_{data}", classes, COORDINATES, index, right.sum(axis=1), acc1, labels, facts)


def costs(index: IntMatrix, side: int, classes: int) -> tuple[IntVector, IntVector]:
    """Return the multiply-adds and the parameters of cells [n]."""
    kernels, convs = KERNELS[index].sum(axis=1), (KERNELS[index] > 0).sum(axis=1)
    flops = np.full(len(index), 27 * STAGES[0] * side**2 + STAGES[-1] * classes)
    # The stem with its batch norm, the last batch norm, and the classifier with its bias.
    params = np.full(len(index), 27 * STAGES[0] + 2 * STAGES[0] + 2 * STAGES[-1] + (STAGES[-1] + 1) * classes)
    for before, c in zip((None, *STAGES), STAGES, strict=False):
        if before is not None:
            # Two 3x3 convolutions, and a 1x1 convolution without a batch norm for the skip connection after a pooling.
            side //= 2
            weights = 9 * before * c + 9 * c * c + before * c
            flops = flops + weights * side**2
            params = params + weights + 4 * c
        flops = flops + CELLS * kernels * c * c * side**2
        params = params + CELLS * (kernels * c * c + 2 * c * convs)
    return flops, params
