"""The table file of this package (.npz): everything that `TableSpace` holds, read in a moment and without running code.

A CSV file of 250,000 trainings takes many seconds to parse, and a comparison reads its table for every search. An archive has
the same content as arrays:

- `meta`: JSON as bytes: `schema`, `name`, `classes`, `facts`, `labels` (their names) and `coordinates` (their fields).
- `index` [n, d]: the candidates as index rows; `trainings` [n]: how many trainings each has.
- `labels` [n, k]: the statistics; `flops` and `params` are among them.
- `acc1` [n, trainings, epochs]: accuracies in percent; nan after the end of a training, and where there is none.
- `test_acc1`, of the same shape: accuracies on test images; `seconds` and `seeds` [n, trainings] of the trainings. A file
  may lack these three.

A search on an archive is judged by the trainings that it did not see (`TableSpace.held_out`).
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from fbnetv3.errors import InputError, quote
from fbnetv3.files import write_atomically
from fbnetv3.schema import STRICT, dump_json, parse_json, read
from fbnetv3.search.space.space import Booleans, Coordinate, Floats
from fbnetv3.search.space.table import TableSpace

SUFFIX = ".npz"
SCHEMA = 1
MOST_BYTES = 1 << 32  # of all arrays of a file
MOST_COUNT = 2**53  # the largest FLOPs and params: floating-point numbers have all whole numbers up to here
_ARRAYS = {"meta": 1, "index": 2, "trainings": 1, "labels": 2, "acc1": 3}  # dimensions by name
_OPTIONAL = {"test_acc1": 3, "seconds": 2, "seeds": 2}
# What reading a damaged archive raises, besides ValueError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError)
Arrays = Mapping[str, npt.NDArray[Any]]


@checked(frozen=True, config=STRICT)
class _Coordinate:
    name: str
    values: Annotated[list[int | float | str], Field(min_length=1)]
    ordered: bool
    arch: bool
    log: bool


@dataclass(frozen=True)
class _Meta:
    schema: int
    name: str
    classes: int
    facts: Mapping[str, str]
    labels: list[str]
    coordinates: list[Coordinate]


def write_archive(table: TableSpace, path: Path) -> None:
    """Write a table, completely or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    meta = {
        "schema": SCHEMA,
        "name": table.name,
        "classes": table.num_classes,
        "facts": dict(table.facts),
        "labels": list(table.labels),
        "coordinates": [
            {key: value for key, value in dataclasses.asdict(c).items() if key != "nominal"} for c in table.coordinates
        ],
    }
    optional = {name: getattr(table, name) for name in _OPTIONAL}
    content = io.BytesIO()
    np.savez_compressed(
        content,
        meta=np.frombuffer(dump_json(meta).encode(), np.uint8),
        index=table.table.astype(np.uint16),
        trainings=table.trainings,
        labels=np.stack(list(table.labels.values()), axis=1),
        acc1=table.acc1,
        **{name: array for name, array in optional.items() if array is not None},
    )
    write_atomically(path, content.getvalue())


def check_suffix(path: Path) -> None:
    """Check the name of a table file.

    Raises:
        InputError: it has another ending.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"--out is {path}; a table file ends in {SUFFIX}")


def read_archive(path: Path) -> TableSpace:
    """Read a table.

    Raises:
        InputError: no such file, a damaged one, or one that `write_archive` did not write.
    """
    try:
        arrays = load_arrays(path, _ARRAYS, _OPTIONAL)
        meta = _read_meta(arrays["meta"], str(path))
        _check(meta, arrays)
    except InputError:  # a ValueError too
        raise
    except ValueError as error:
        raise InputError(
            f"{path} is no table file, or it is damaged: {quote(str(error), 300)[1:-1]}; "
            "`fbnetv3 search table convert` writes them"
        ) from None
    return TableSpace(
        name=meta.name,
        about=meta.facts.get("data", "a table"),
        in_chans=3,
        num_classes=meta.classes,
        coordinates=tuple(meta.coordinates),
        table=arrays["index"].astype(np.int64),
        labels={name: arrays["labels"][:, k] for k, name in enumerate(meta.labels)},
        acc1=arrays["acc1"],
        trainings=arrays["trainings"].astype(np.int64),
        held_out=True,
        **{name: arrays.get(name) for name in _OPTIONAL},
        facts=meta.facts,
    )


def load_arrays(
    path: Path, dimensions: Mapping[str, int], optional: Mapping[str, int] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an npz file by name. No code of the file is run.

    Args:
        dimensions: of every array, by name.
        optional: of arrays that the file may lack.

    Raises:
        InputError: no such file.
        ValueError: the file is no such archive, is damaged, or has other arrays than those of `dimensions`.
    """
    try:
        # `np.load` takes other kinds of files too, so the archive is looked at first. Its sizes are those after unpacking.
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            if damaged := archive.testzip():
                raise ValueError(f"its part {damaged} is not as it was written")
        with np.load(path, allow_pickle=False) as file:
            if set(file.files) - set(optional or ()) != set(dimensions):
                raise ValueError(f"it has the arrays {sorted(file.files)}, not {sorted(dimensions)}")
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"cannot read the table {path}: {error.strerror or error}; give the path of one") from None
    except _DAMAGE as error:
        raise ValueError(str(error) or type(error).__name__) from None
    allowed = {**dimensions, **(optional or {})}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.ndim != allowed[name] or array.dtype.kind not in "uif":
            raise ValueError(f"{name} is no array of {allowed[name]} dimensions of numbers")
    return arrays


def _read_meta(content: npt.NDArray[Any], where: str) -> _Meta:
    """Return the checked description of a table."""
    data = parse_json(content.astype(np.uint8).tobytes(), where)
    if not isinstance(data, dict) or set(data) != {field.name for field in dataclasses.fields(_Meta)}:
        raise ValueError("meta has other entries")
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {quote(data['schema'])}, this version reads {SCHEMA}")
    rows = data["coordinates"]
    if not isinstance(rows, list) or not rows or not isinstance(data["labels"], list):
        raise ValueError("meta has no coordinates or labels")
    coordinates = [_coordinate(read(_Coordinate, row, f"{where}: coordinates")) for row in rows]
    names = [c.name for c in coordinates]
    facts, labels = data["facts"], data["labels"]
    texts = [data["name"], *names, *labels, *facts.values()] if isinstance(facts, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or len(set(names)) < len(names):
        raise ValueError("meta has a name that is no text, or one twice")
    if not {"flops", "params"} <= set(labels) or len(set(labels)) < len(labels):
        raise ValueError(f"its labels are {quote(labels)}; flops and params are needed, each label once")
    if type(data["classes"]) is not int or data["classes"] < 1:
        raise ValueError(f"classes is {quote(data['classes'])}")
    return _Meta(SCHEMA, data["name"], data["classes"], facts, labels, coordinates)


def _coordinate(row: _Coordinate) -> Coordinate:
    values = tuple(row.values)
    numbers = not any(isinstance(value, str) for value in values)
    rising = not row.ordered or (numbers and list(values) == sorted(values))
    if len(set(values)) < len(values) or not rising or (row.log and not (row.ordered and values[0] > 0)):  # type: ignore[operator]
        raise ValueError(f"coordinate {row.name}: values {quote(values)} are not different, in order, or above 0")
    return Coordinate(row.name, values, row.ordered, row.arch, values, row.log)


def _check(meta: _Meta, arrays: Arrays) -> None:
    """Check that the arrays fit the description and each other.

    Raises:
        ValueError: they do not.
    """
    index, trainings, labels, acc1 = (arrays[name] for name in ("index", "trainings", "labels", "acc1"))
    n, sizes = len(index), [len(c.values) for c in meta.coordinates]
    shapes = (index.shape[1], len(trainings), labels.shape, len(acc1))
    if not n or shapes != (len(sizes), n, (n, len(meta.labels)), n) or index.dtype.kind == "f":
        raise ValueError(f"its arrays do not fit each other: {n} rows, {shapes}")
    if (index < 0).any() or (index >= sizes).any() or len(np.unique(index, axis=0)) < n:
        raise ValueError("index has a row twice, or a value that its coordinate does not have")
    counts = labels[:, [meta.labels.index("flops"), meta.labels.index("params")]]
    if not np.isfinite(labels).all() or not ((counts >= 1) & (counts <= MOST_COUNT) & (counts == counts.round())).all():
        raise ValueError(f"a label is not finite, or flops or params are no whole numbers from 1 to {MOST_COUNT:,}")
    if not acc1.shape[2] or trainings.dtype.kind == "f" or not ((trainings >= 1) & (trainings <= acc1.shape[1])).all():
        raise ValueError("a row has no training, or more than acc1")
    missing = np.arange(acc1.shape[1]) >= trainings[:, None]
    for name in ("acc1", "test_acc1"):
        if name in arrays:
            _check_curves(name, arrays[name], missing)
    if "test_acc1" in arrays and (np.isnan(arrays["test_acc1"]) != np.isnan(acc1)).any():
        raise ValueError("test_acc1 has other epochs than acc1")
    for name in {"seconds", "seeds"} & set(arrays):
        if arrays[name].shape != missing.shape or not (arrays[name][~missing] >= 0).all():
            raise ValueError(f"{name} has another shape than acc1, or a training without a number of at least 0")


def _check_curves(name: str, curves: Floats, missing: Booleans) -> None:
    """Check accuracies [n, trainings, epochs].

    Args:
        missing: which trainings do not exist [n, trainings].

    Raises:
        ValueError: one cannot be.
    """
    there = ~np.isnan(curves)
    if curves.shape[:2] != missing.shape:
        raise ValueError(f"{name} has the shape {curves.shape}")
    if (there & ~((curves >= 0) & (curves <= 100))).any() or (there[:, :, 1:] & ~there[:, :, :-1]).any():
        raise ValueError(f"{name} has a value outside of 0 to 100, or one after the end of a training")
    if there[missing].any():
        raise ValueError(f"{name} has more trainings than `trainings` says")
