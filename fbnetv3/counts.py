"""Counts of FLOPs and parameters as people write them: 450M, 1.2G, 800K."""

from __future__ import annotations

from fbnetv3.errors import InputError

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
        raise InputError(f"{option} is {text!r}; give a count such as 450M, 1.2G or 1000000")
    return value
