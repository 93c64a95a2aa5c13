"""Strict reading of YAML files in which every scalar is text, so that 80.0 stays 80.0."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fbnetv3.errors import InputError, check_keys

SCHEMA = "1"
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the same, in C where PyYAML was built with it
Record = TypeVar("Record")


def read_yaml(path: Path) -> dict[str, Any]:
    """The top mapping of a file, its `schema` checked and taken off.

    Raises:
        InputError: no such file, not YAML, a doubled key, not a mapping, or a schema that this version does not read.
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
    """A dataclass from a mapping: fields typed `tuple[...]` must be lists of texts, all others texts.

    Raises:
        InputError: unknown or missing key, or a value of another type; the message names place, key and value.
    """
    values = check_keys(data, cls, where)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in values:
            continue
        value = values[field.name]
        if str(field.type).startswith("tuple"):
            values[field.name] = tuple(read_list(value, f"{where}: {field.name}"))
            wrong = [element for element in value if not _is_text(element)]
        else:
            wrong = [] if _is_text(value) else [value]
        if wrong:
            raise InputError(f"{where}: {field.name} is {wrong[0]!r}; allowed: a non-empty text or number")
    return cls(**values)


def read_list(data: Any, where: str) -> list[Any]:
    """`data`, which must be a list.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(data, list):
        raise InputError(f"{where} is {data!r}; allowed: a list")
    return data


def read_records(data: Any, cls: type[Record], where: str) -> list[Record]:
    """A list of mappings as dataclasses; see `read_record`."""
    return [read_record(entry, cls, f"{where}[{i}]") for i, entry in enumerate(read_list(data, where))]


def _plain(node: yaml.Node | None, where: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(element, where) for element in node.value]
    if not isinstance(node, yaml.MappingNode):
        return None if node is None else node.value
    data: dict[str, Any] = {}
    for key, value in node.value:
        if str(key.value) in data:
            raise InputError(f"{where}: line {key.start_mark.line + 1}: key {key.value!r} is given twice")
        data[str(key.value)] = _plain(value, where)
    return data


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
