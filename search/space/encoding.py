"""Index rows as input of the predictor: one-hot choices, min-max ranges (section 3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fbnetv3.search.space.space import Coordinate, IntMatrix, SearchSpace

Columns = npt.NDArray[np.float32]


def encode(space: SearchSpace, index: IntMatrix) -> Columns:
    """Index rows [n, d] to columns in [0, 1] [n, len(arch_mask(space))]; widths are encoded as built."""
    out = np.empty((len(index), len(arch_mask(space))), np.float32)
    start = 0
    for coordinate, column in zip(space.coordinates, index.T, strict=True):
        code = _code(coordinate)
        out[:, start : start + code.shape[1]] = code[column]
        start += code.shape[1]
    return out


def arch_mask(space: SearchSpace) -> npt.NDArray[np.bool_]:
    """Which columns of `encode` describe the architecture; the others describe the recipe."""
    widths = [1 if c.ordered else len(c.values) for c in space.coordinates]
    return np.repeat([c.arch for c in space.coordinates], widths)


def _code(coordinate: Coordinate) -> Columns:
    """What every value of a coordinate is encoded as: [values, columns]."""
    values = coordinate.array
    if coordinate.ordered:
        code: Columns = ((values - values.min()) / max(np.ptp(values), 1e-12)).astype(np.float32)[:, None]
    else:
        code = (values[:, None] == values[None, :]).astype(np.float32)
    return code
