"""The one error that a user can mend, the one warning, and the strict reading of mappings that raises the error."""

import dataclasses
from collections.abc import Mapping
from typing import Any


class InputError(ValueError):
    """Something the user gave is wrong: the message names what was given, what is allowed and what to do.

    The command line prints it as one line and exits with code 2; every other exception is a bug and keeps its traceback.
    """


class Note(UserWarning):
    """Something that the user should know and that is no error: a licence, a classifier that starts afresh."""


def check_keys(data: Any, cls: type, where: str) -> dict[str, Any]:
    """Return `data` as a dict whose keys are exactly fields of the dataclass `cls`, the required ones all present.

    Raises:
        InputError: not a mapping, an unknown key or a missing key; the message starts with `where`.
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
            raise InputError(
                f"{where}: missing key {name!r}; required beside: {', '.join(map(str, data)) or 'nothing'}"
            )
    return dict(data)
