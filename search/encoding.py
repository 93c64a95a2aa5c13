"""Index rows as input of the predictor: one-hot choices, min-max ranges (section 3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fbnetv3.search.space import IntMatrix, SearchSpace


def encode(space: SearchSpace, index: IntMatrix) -> npt.NDArray[np.float32]:
    """Index rows [n, d] to columns in [0, 1] [n, len(arch_mask(space))]; widths are encoded as built."""
    parts = []
    for j, coordinate in enumerate(space.coordinates):
        values = coordinate.array[index[:, j]]
        if coordinate.ordered:
            low, high = coordinate.array.min(), coordinate.array.max()
            parts.append(((values - low) / max(high - low, 1e-12))[:, None])
        else:
            parts.append(values[:, None] == coordinate.array[None, :])
    return np.concatenate(parts, axis=1).astype(np.float32)


def arch_mask(space: SearchSpace) -> npt.NDArray[np.bool_]:
    """Which columns of `encode` describe the architecture; the others describe the recipe."""
    widths = [1 if c.ordered else len(c.values) for c in space.coordinates]
    return np.repeat([c.arch for c in space.coordinates], widths)
