"""Index rows as the input of the predictor: choices one-hot, ranges min-max scaled (section 3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fbnetv3.search.space.space import Booleans, Coordinate, IntMatrix, SearchSpace

Columns = npt.NDArray[np.float32]


def encode(space: SearchSpace, index: IntMatrix) -> Columns:
    """Return the encoding of index rows [n, d]: columns in [0, 1], [n, len(arch_mask(space))].

    Widths are encoded as built, so that equal networks have equal encodings.
    """
    out = np.empty((len(index), len(arch_mask(space))), np.float32)
    start = 0
    for coordinate, column in zip(space.coordinates, index.T, strict=True):
        code = _code(coordinate)
        out[:, start : start + code.shape[1]] = code[column]
        start += code.shape[1]
    return out


def arch_mask(space: SearchSpace) -> Booleans:
    """Return which columns of `encode` describe the architecture; the others describe the recipe."""
    widths = [1 if c.ordered else len(c.values) for c in space.coordinates]
    return np.repeat([c.arch for c in space.coordinates], widths)


def _code(coordinate: Coordinate) -> Columns:
    """Return the encoding of every value of a coordinate [values, columns]."""
    values = np.log(coordinate.array) if coordinate.log else coordinate.array
    if coordinate.ordered:
        # A range with a single value has no width to divide by.
        code: Columns = ((values - values.min()) / max(np.ptp(values), 1e-12)).astype(np.float32)[:, None]
    else:
        code = (values[:, None] == values[None, :]).astype(np.float32)
    return code
