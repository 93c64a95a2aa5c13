"""One table of several collections: of other seeds, machines or days."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError
from fbnetv3.search.space.table import TableSpace

# Facts in which collections of the same kind may differ: all of them are kept. A constraint says which pairs were trained,
# and not how.
OWN = ("design", "constraint", "versions", "failed")
_SAME = ("num_classes", "in_chans", "coordinates")
_TRAININGS = ("acc1", "test_acc1", "seconds", "seeds")  # arrays with an entry for every training


def merge(tables: Sequence[TableSpace], names: Sequence[object]) -> TableSpace:
    """Return a table with all trainings of several tables. A pair that several have has the trainings of all of them.

    Args:
        names: what messages call the tables.

    Raises:
        InputError: they are tables of different kinds, or two have the same training.
    """
    first = tables[0]
    for table, name in zip(tables[1:], names[1:], strict=True):
        if differences := _differences(first, table):
            raise InputError(
                f"{name} has another {', another '.join(differences)} than {names[0]}; merge tables of one kind"
            )
    rows, place = np.unique(np.concatenate([table.table for table in tables]), axis=0, return_inverse=True)
    of_table = np.split(place.reshape(-1), np.cumsum([len(table.table) for table in tables])[:-1])
    trainings = np.zeros(len(rows), np.int64)
    for table, at in zip(tables, of_table, strict=True):
        trainings[at] += table.trainings
    labels = {name: np.zeros(len(rows)) for name in first.labels}
    arrays: dict[str, Any] = {
        name: _empty(getattr(first, name), len(rows), int(trainings.max())) for name in _TRAININGS
    }
    filled = np.zeros(len(rows), np.int64)
    for table, at in zip(tables, of_table, strict=True):
        for name, values in table.labels.items():
            labels[name][at] = values
        for i, row in enumerate(at.tolist()):
            n, begin = int(table.trainings[i]), int(filled[row])
            for name, array in arrays.items():
                if array is not None:
                    array[row, begin : begin + n] = getattr(table, name)[i, :n]
            filled[row] += n
    merged = dataclasses.replace(first, table=rows, labels=labels, trainings=trainings, facts=_facts(tables), **arrays)
    _refuse_doubles(merged)
    return merged


def _differences(a: TableSpace, b: TableSpace) -> list[str]:
    """Return in what tables differ that cannot be merged."""
    found = [name.replace("num_classes", "number of classes") for name in _SAME if getattr(a, name) != getattr(b, name)]
    if list(a.labels) != list(b.labels):
        found.append("set of statistics")
    for name in _TRAININGS:
        shapes = [None if array is None else array.shape[2:] for array in (getattr(a, name), getattr(b, name))]
        if shapes[0] != shapes[1]:
            found.append(f"{name} (present, or of other epochs)")
    return found + [
        f"fact {key!r}"
        for key in dict.fromkeys([*a.facts, *b.facts])
        if key not in OWN and a.facts.get(key) != b.facts.get(key)
    ]


def _empty(like: npt.NDArray[Any] | None, rows: int, most: int) -> npt.NDArray[Any] | None:
    if like is None:
        return None
    return np.full((rows, most, *like.shape[2:]), np.nan if like.dtype.kind == "f" else 0, like.dtype)


def _facts(tables: Sequence[TableSpace]) -> dict[str, str]:
    own = {key: "; and ".join(dict.fromkeys(t.facts[key] for t in tables if key in t.facts)) for key in OWN}
    return {**tables[0].facts, **{key: text for key, text in own.items() if text}}


def _refuse_doubles(table: TableSpace) -> None:
    if table.seeds is None:
        return
    for row, seeds, n in zip(table.table.tolist(), table.seeds.tolist(), table.trainings.tolist(), strict=True):
        if len(set(seeds[:n])) < n:
            raise InputError(
                f"two tables have the same training (seed {max(seeds[:n], key=seeds[:n].count)} of {table.values(row)}); give "
                "every table once, and collect with different seeds"
            )
