"""Strict reading of YAML files in which every scalar is text.

The number of printed digits matters: YAML's numbers would turn 80.0 and 80.00 into the same value.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from fbnetv3.errors import InputError, check_keys

SCHEMA = "1"
# A base loader makes texts of all scalars. The one in C is ten times as fast, but not every PyYAML has it.
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
Record = TypeVar("Record")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the top mapping of a file, without its key `schema`, which is checked.

    Raises:
        InputError: the file does not exist, is not YAML, gives a key twice, is not a mapping, or has a schema that this version
            does not read.
    """
    try:
        data = _plain(yaml.compose(path.read_text(encoding="utf-8"), LOADER), path.name)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path.name}: expected a mapping, got {type(data).__name__} {data!r}")
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path.name}: schema is {data.get('schema')!r}; this version reads {SCHEMA}: update fbnetv3")
    return {key: value for key, value in data.items() if key != "schema"}


def read_record(data: Any, cls: type[Record], where: str) -> Record:
    """Return a dataclass made of a mapping. Fields of type `tuple[...]` must be lists of texts, all others texts.

    Raises:
        InputError: a key is unknown or missing, or a value has another type. The message names place, key and value.
    """
    values = check_keys(data, cls, where)
    for field in dataclasses.fields(cast(Any, cls)):
        if field.name not in values:
            continue
        value = values[field.name]
        # With postponed annotations the type of a field is a text.
        if str(field.type).startswith("tuple"):
            values[field.name] = tuple(read_list(value, f"{where}: {field.name}"))
            wrong = [element for element in value if not _is_text(element)]
        else:
            wrong = [] if _is_text(value) else [value]
        if wrong:
            raise InputError(f"{where}: {field.name} is {wrong[0]!r}; allowed: a non-empty text or number")
    return cls(**values)


def read_list(data: Any, where: str) -> list[Any]:
    """Return `data` after a check that it is a list.

    Raises:
        InputError: it is not a list.
    """
    if not isinstance(data, list):
        raise InputError(f"{where} is {data!r}; allowed: a list")
    return data


def read_records(data: Any, cls: type[Record], where: str) -> list[Record]:
    """Return a list of dataclasses made of a list of mappings, each by `read_record`."""
    return [read_record(entry, cls, f"{where}[{i}]") for i, entry in enumerate(read_list(data, where))]


def _plain(node: yaml.Node | None, where: str) -> Any:
    """Return the plain data of a node. yaml.load would do it too, but it keeps the last of two equal keys without a word."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(element, where) for element in node.value]
    if not isinstance(node, yaml.MappingNode):
        return None if node is None else node.value  # the text as it is in the file, before YAML makes a number of it
    data: dict[str, Any] = {}
    for key, value in node.value:
        # yaml keeps the last of two equal keys without a word. A number that is given twice is a mistake.
        if str(key.value) in data:
            raise InputError(f"{where}: line {key.start_mark.line + 1}: key {key.value!r} is given twice")
        data[str(key.value)] = _plain(value, where)
    return data


def _is_text(value: Any) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())
