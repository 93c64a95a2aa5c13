"""The error for every mistake that the user can correct, a warning, and the strict reading of mappings."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SHORT_LIST = 12  # so many names can be read at a glance
QUOTED = 80  # characters of a quoted value
QUOTED_PATH = 500  # of a path, whose end says most


class InputError(ValueError):
    """Something that the user gave is wrong. The message says what was given, what is allowed and what to do.

    The command line prints the message as one line and exits with code 2. Every other exception is a bug and keeps its
    traceback.
    """


def quote(value: Any, most: int = QUOTED) -> str:
    """Return `repr(value)` for a message, cut to `most` characters.

    Only as much of the value is turned into text as is shown: a value from a file of a few lines may be endless (YAML's
    aliases) or have millions of digits. Kinds of dicts, lists and tuples are written as these.
    """
    text = ""
    for piece in _pieces(value, most):
        text += piece
        if len(text) > most:
            return f"{text[: most - 3]}..."
    return text


def _pieces(value: Any, most: int) -> Iterator[str]:
    """Yield `repr(value)` in pieces. Texts and whole numbers that are too long anyway are cut here already."""
    if isinstance(value, list | tuple):
        yield "[" if isinstance(value, list) else "("
        for i, element in enumerate(value):
            yield ", " if i else ""
            yield from _pieces(element, most)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
    elif isinstance(value, dict):
        yield "{"
        for i, (key, element) in enumerate(value.items()):
            yield ", " if i else ""
            yield from _pieces(key, most)
            yield ": "
            yield from _pieces(element, most)
        yield "}"
    elif isinstance(value, str | bytes):
        yield repr(value[: most + 1])
    elif isinstance(value, int) and value.bit_length() > 4 * most:  # Python refuses to print 5,000 digits
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield " ".join(repr(value).split())  # one line, also for arrays


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
        raise InputError(f"{where}: expected a mapping, got {type(data).__name__} {quote(data)}")
    # The fields of the class are the only list of allowed keys, so a new field needs no other change.
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            raise InputError(f"{where}: unknown key {quote(key)}; {available(key, fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            # The keys are names of fields here, so the list is short.
            raise InputError(f"{where}: missing key {name!r}; given: {', '.join(data) or 'nothing'}")
    return dict(data)


def available(name: Any, choices: Iterable[str], more: str = "", command: str = "") -> str:
    """Return which names there are, for the end of the error about an unknown one.

    The nearest names are suggested. A short list is also given in full.

    Args:
        more: what may be given besides the names, such as ", or the path of a .yaml file".
        command: the command that lists all names. It is named if the list is long and no name is near.
    """
    names = list(choices)
    # A name is compared letter by letter, which would take minutes for a text of megabytes.
    near = difflib.get_close_matches(name[:QUOTED] if isinstance(name, str) else quote(name), names, n=3)
    guess = f"did you mean {', '.join(map(repr, near))}?"
    if len(names) <= SHORT_LIST:
        listed = f"vailable: {', '.join(names)}{more}"
        return f"{guess} A{listed}" if near else f"a{listed}"
    if near:
        return guess
    return f"`{command}` lists all {len(names)}{more}" if command else f"available: {', '.join(names)}{more}"
