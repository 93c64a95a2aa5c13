"""The error for every mistake that the user can correct, a warning, and the strict reading of mappings."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class InputError(ValueError):
    """Something that the user gave is wrong. The message says what was given, what is allowed and what to do.

    The command line prints the message as one line and exits with code 2. Every other exception is a bug and keeps its
    traceback.
    """


class Note(UserWarning):
    """Something that the user should know although it is no error: a licence, or a classifier with new weights."""


def check_keys(data: Any, cls: type, where: str) -> dict[str, Any]:
    """Return `data` as a dict after a check that its keys are fields of the dataclass `cls`.

    Args:
        where: what is being read; the messages start with it.

    Raises:
        InputError: `data` is not a mapping, has an unknown key, or lacks the key of a field without a default.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected a mapping, got {type(data).__name__} {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            raise InputError(f"{where}: unknown key {key!r}; allowed: {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise InputError(f"{where}: missing key {name!r}; given: {', '.join(map(str, data)) or 'nothing'}")
    return dict(data)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the choice that is nearest to a mistyped name, or "" if none is near."""
    near = difflib.get_close_matches(name, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
