"""The error for every mistake that the user can correct, a warning, and the strict reading of mappings."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

SHORT_LIST = 12  # so many names can be read at a glance


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
    # The fields of the class are the only list of allowed keys, so a new field needs no other change.
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            raise InputError(f"{where}: unknown key {key!r}; {available(key, fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise InputError(f"{where}: missing key {name!r}; given: {', '.join(map(str, data)) or 'nothing'}")
    return dict(data)


def available(name: Any, choices: Iterable[str], more: str = "", command: str = "") -> str:
    """Return which names there are, for the end of the error about an unknown one.

    The nearest names are suggested. A short list is also given in full.

    Args:
        more: what may be given besides the names, such as ", or the path of a .yaml file".
        command: the command that lists all names. It is named if the list is long and no name is near.
    """
    names = list(choices)
    near = difflib.get_close_matches(str(name), names, n=3)
    guess = f"did you mean {', '.join(map(repr, near))}?"
    if len(names) <= SHORT_LIST:
        listed = f"vailable: {', '.join(names)}{more}"
        return f"{guess} A{listed}" if near else f"a{listed}"
    if near:
        return guess
    return f"`{command}` lists all {len(names)}{more}" if command else f"available: {', '.join(names)}{more}"
