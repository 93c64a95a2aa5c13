"""Index rows as the input of the predictor: choices one-hot, ranges min-max scaled (section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.search.space.space import Booleans, Coordinate, IntMatrix, SearchSpace

Columns = npt.NDArray[np.float32]
BEYOND = 1.0  # values outside of a range are encoded so far beyond its ends, at most; the range itself is from 0 to 1


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


def encode_values(space: SearchSpace, values: Mapping[str, Sequence[Any]]) -> Columns:
    """Return the encoding of candidates of a space with the same coordinates, whose values may be others.

    A value outside of a range has a code below 0 or above 1. A choice that the space does not have is none of its choices.

    Args:
        values: the values of n candidates, by the coordinate's name.
    """
    return np.concatenate([_foreign_code(c, values[c.name]) for c in space.coordinates], axis=1)


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


def _foreign_code(coordinate: Coordinate, values: Sequence[Any]) -> Columns:
    """Return the encoding of values [n] that the coordinate need not have [n, columns]."""
    if not coordinate.ordered:
        return np.array([[value == own for own in coordinate.values] for value in values], np.float32)
    scale, given = coordinate.array, np.array(values, float)
    if coordinate.log:
        # Zero has no logarithm: it is below every positive number, however small.
        scale, given = np.log(scale), np.log(np.maximum(given, np.finfo(float).tiny))
    code = (given - scale.min()) / max(np.ptp(scale), 1e-12)
    clipped: Columns = np.clip(code, -BEYOND, 1.0 + BEYOND).astype(np.float32)[:, None]
    return clipped
