"""684 trainings of ResNets on TinyImageNet, with their accuracies after each of 140 epochs (Baker et al., 2018).

The file is an npz archive of the public data. `x` [n, 5] has the columns num_blocks, num_filters, filter_size, lr and ss (the
step size of the schedule). `curves` [n, 141] has the accuracies from 0 to 1, first that of the untrained network, which is left
out. 69 trainings have the same columns as an earlier one: they are more trainings of that candidate.

The source says that a network has 6 * num_blocks + 2 layers and how many filters each has, but not where it has strides. So
`params` are the weights of such layers, and `flops` is what they would cost without strides: good to rank networks, not exact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fbnetv3.errors import InputError, quote
from fbnetv3.search.space.space import Coordinate
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_archive import load_arrays

NAMES = (("blocks", True), ("filters", True), ("kernel", True), ("lr", False), ("step_size", False))
CLASSES, SIDE = 200, 32
FACTS = {
    "data": "ResNets on TinyImageNet, images of 32 x 32, 200 classes, 140 epochs",
    "splits": "500 training images for each class; the accuracies are those of validation",
    "metric": "accuracy in percent after every epoch",
    "costs": "no exact ones, since the source does not say where the networks have strides; params: weights of 6 * blocks + 1 "
    "convolutions and the classifier, flops: their multiply-adds without strides",
    "licence": "MIT",
    "citation": "Baker, Gupta, Raskar and Naik, Accelerating Neural Architecture Search using Performance Prediction, ICLR "
    "Workshop 2018",
    "source": "https://github.com/MITAutoML/accelerating_nas, deep_resnets_tinyimagenet, as an npz archive",
}


def read_tiny_image_net(path: Path) -> TableSpace:
    """Return the table of a file of curves.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        arrays = load_arrays(path, {"x": 2, "curves": 2})
        x, curves = arrays["x"].astype(float), 100.0 * arrays["curves"][:, 1:].astype(float)
        if x.shape != (len(curves), len(NAMES)) or not len(x) or not curves.shape[1]:
            raise ValueError(f"x is {x.shape} and curves is {arrays['curves'].shape}")
        if not (np.isfinite(x) & (x > 0)).all() or not ((curves >= 0) & (curves <= 100)).all():
            raise ValueError("a column is not above 0, or an accuracy is not from 0 to 1")
    except InputError:  # a ValueError too
        raise
    except ValueError as error:
        raise InputError(
            f"{path} is no file of TinyImageNet curves, or it is damaged: {quote(str(error), 200)}"
        ) from None
    rows, inverse = np.unique(x, axis=0, return_inverse=True)
    trainings = np.bincount(inverse.reshape(-1))
    acc1 = np.full((len(rows), int(trainings.max()), curves.shape[1]), np.nan)
    filled = np.zeros(len(rows), int)
    for row, curve in zip(inverse.reshape(-1).tolist(), curves, strict=True):
        acc1[row, filled[row]] = curve
        filled[row] += 1
    columns = [np.unique(column, return_inverse=True) for column in rows.T]
    blocks, filters, kernel = rows.T[:3]
    params = 3 * kernel**2 * filters + 6 * blocks * kernel**2 * filters**2 + CLASSES * filters
    flops = (params - CLASSES * filters) * SIDE**2 + CLASSES * filters
    return TableSpace(
        name="tiny_image_net",
        about=FACTS["data"],
        in_chans=3,
        num_classes=CLASSES,
        coordinates=tuple(
            _coordinate(name, arch, values) for (name, arch), (values, _) in zip(NAMES, columns, strict=True)
        ),
        table=np.stack([codes.reshape(-1) for _, codes in columns], axis=1).astype(np.int64),
        labels={"flops": flops, "params": params},
        acc1=acc1,
        trainings=trainings,
        held_out=True,
        facts=FACTS,
    )


def _coordinate(name: str, arch: bool, values: np.ndarray) -> Coordinate:  # type: ignore[type-arg]
    found = tuple(int(value) if value == int(value) else float(value) for value in values.tolist())
    return Coordinate(name, found, True, arch, found)
