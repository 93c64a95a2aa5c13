"""Sources: the trainings of earlier searches, from which the predictor of another search starts.

A source has the values of its candidates and not their index rows, because its space may have had other values. The folder of
a search has a copy of each of its sources, see `runs/inputs.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT, dump_json, load_json, read
from fbnetv3.search.space.encoding import Columns, encode_values
from fbnetv3.search.space.space import Floats, SearchSpace
from fbnetv3.search.trial import Finite

SCHEMA = 1
NAMED = 5  # differences in a message, at most


class Lesson(NamedTuple):
    """What the predictor learns from a source: encoded candidates [n, columns], and accuracies in points [n]."""

    x: Columns
    y: Floats


@dataclass(frozen=True, config=STRICT)
class Source:
    """The trainings of one earlier search.

    Attributes:
        name: the configuration's name.
        space: name of the space.
        data: what was trained on; None for a custom evaluator.
        coordinates: the kind of every coordinate of the space, by name.
        candidates: the values of each candidate, in the order of `coordinates`; widths as built.
        accuracies: of the candidates, in percent.
    """

    schema: int
    name: str
    space: str
    data: str | None
    coordinates: dict[str, str]
    candidates: Annotated[list[list[Any]], Field(min_length=1)]
    accuracies: list[Finite]

    @classmethod
    def of(
        cls,
        name: str,
        space: SearchSpace,
        data: str | None,
        candidates: Sequence[Sequence[int]],
        accuracies: list[float],
    ) -> Source:
        """Return the source of a search with this name; candidates are index rows of its space."""
        values = [list(space.values(row).values()) for row in candidates]
        return cls(SCHEMA, name, space.name, data, _kinds(space), values, accuracies)

    def lesson(self, space: SearchSpace) -> Lesson:
        """Return the trainings as the predictor of a search in `space` sees them."""
        columns = zip(*self.candidates, strict=True)
        values = dict(zip(self.coordinates, columns, strict=True))
        return Lesson(encode_values(space, values), np.array(self.accuracies))

    @property
    def about(self) -> str:
        """What the source is, in words."""
        where = f"space {self.space}" + (f", data {self.data}" if self.data else "")
        return f"{self.name}: {len(self.accuracies)} trainings ({where})"

    def to_bytes(self) -> bytes:
        """Return the content of the source's file."""
        return dump_json(dataclasses.asdict(self)).encode()


def read_source(path: Path) -> Source:
    """Read the file of a source.

    Raises:
        InputError: no such file, or a damaged one.
    """
    source = read(Source, load_json(path, "source of a search"), str(path))
    if source.schema != SCHEMA:
        raise InputError(f"{path}: schema is {source.schema}; this version reads {SCHEMA}")
    widths = {len(candidate) for candidate in source.candidates}
    if widths != {len(source.coordinates)} or len(source.candidates) != len(source.accuracies):
        raise InputError(f"{path} is damaged: every candidate needs a value of each coordinate, and an accuracy")
    return source


def check_source(source: Source, space: SearchSpace, where: object) -> None:
    """Check that a search in a space can start from a source: coordinates of the same names and kinds; values may differ.

    Args:
        where: what the message starts with.

    Raises:
        InputError: the coordinates are others. The message names the differences.
    """
    theirs, ours = source.coordinates, _kinds(space)
    found = []
    for name in dict.fromkeys([*ours, *theirs]):
        there, here = theirs.get(name, "missing"), ours.get(name, "missing")
        if there != here:
            found.append(f"{name} is {there} there and {here} here")
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InputError(
            f"{where}: a search in space {space.name} cannot start from one in space {source.space}: "
            f"{'; '.join(found[:NAMED])}{more}. Give a search whose coordinates have the same names and kinds"
        )


def _kinds(space: SearchSpace) -> dict[str, str]:
    """Return what every coordinate of a space is, by name."""
    return {
        c.name: f"a {'range' if c.ordered else 'choice'} of the {'architecture' if c.arch else 'recipe'}"
        for c in space.coordinates
    }
