"""Quasi Monte-Carlo samples of a space (section 3.3): a scrambled Sobol sequence of index rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from fbnetv3.search.space.space import IntMatrix, SearchSpace

CHUNK = 2**13  # rows drawn at a time: few enough for the processor's cache


def sobol(space: SearchSpace, log2_n: int, seed: int) -> IntMatrix:
    """Return 2**log2_n index rows of a scrambled Sobol sequence over the coordinates of a space."""
    return np.concatenate(list(draws(space, 2**log2_n, seed)))


def draws(space: SearchSpace, n: int, seed: int) -> Iterator[IntMatrix]:
    """Yield the first `n` index rows of a scrambled Sobol sequence in matrices of `CHUNK` rows, the last one shorter.

    The rows of a seed do not depend on `n`. A power of two covers every value equally. A table that lacks some combinations
    of values gives its own rows instead, each once, in random order.
    """
    if space.listed is not None:
        shuffled = np.random.default_rng(seed).permutation(space.listed)[:n]
        yield from (shuffled[start : start + CHUNK] for start in range(0, len(shuffled), CHUNK))
        return
    sequence = qmc.Sobol(len(space.coordinates), scramble=True, rng=np.random.default_rng(seed))
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        # scipy warns if the first draw is not a power of two, so the rows beyond `n` are drawn and cut off.
        unit = sequence.random(CHUNK if start else 1 << (size - 1).bit_length())[:size]
        unit *= space.sizes
        # The floor keeps every value equally likely; rounding would halve the ends.
        yield unit.astype(np.int64)
