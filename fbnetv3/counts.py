"""Numbers that people give: counts of FLOPs and parameters (450M, 1.2G, 800K), and seeds."""

from __future__ import annotations

import operator

from fbnetv3.errors import InputError, quote

LEAST_SEED, MAX_SEED = -(2**63), 2**64 - 1  # of torch's generators; NumPy's begin at 0
UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


def parse_count(text: str, option: str) -> float:
    """Return a count such as 450M, 1.2G, 800K or 1000000 as a number.

    Args:
        text: the count.
        option: where it was given, for the error message.

    Raises:
        InputError: the text is no count above zero.
    """
    factor = UNITS.get(text[-1:].upper())
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{option} is {quote(text)}; give a count such as 450M, 1.2G or 1000000")
    return value


def check_seed(seed: int, least: int = 0) -> int:
    """Return a seed as a Python integer.

    Raises:
        InputError: it is no whole number from `least` to `MAX_SEED`.
    """
    try:
        number = operator.index(seed)  # NumPy's integers too
    except TypeError:
        number = least - 1
    if not least <= number <= MAX_SEED:
        raise InputError(f"seed is {quote(seed)}; give a whole number from {least} to {MAX_SEED}")
    return number
