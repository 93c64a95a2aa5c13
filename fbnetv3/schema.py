"""Strict reading of mappings into frozen dataclasses: an unknown key, a missing key or a wrong type is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, ValidationError

from fbnetv3.errors import InputError, available, check_keys

STRICT = ConfigDict(strict=True, extra="forbid")  # for pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
T = TypeVar("T")


def read(cls: type[T], data: Any, where: str, **nested: type) -> T:
    """Return a pydantic dataclass built from a mapping.

    Args:
        where: what is being read; the messages start with it.
        nested: classes of the fields that are themselves mappings of a dataclass.

    Raises:
        InputError: the message names the key, the value and the rule.
    """
    fields = check_keys(data, cls, where)
    for name, inner in nested.items():
        if name in fields and not isinstance(fields[name], inner):
            fields[name] = read(inner, fields[name], f"{where}: {name}")
    try:
        return cls(**fields)
    except ValidationError as error:
        first = error.errors()[0]  # one mistake at a time; the user reads one line
        if not first["loc"]:  # a rule between several fields, whose message names them
            raise InputError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        key, given = ".".join(map(str, first["loc"])), first["input"]
        hint = "; YAML reads 1e-5 as text, write 1.0e-5" if isinstance(given, str) and _is_number(given) else ""
        raise InputError(f"{where}: {key} is {given!r}; {first['msg']}{hint}") from None


def find_yaml(name: str, folder: Path, what: str, more: str = "") -> Path:
    """Return the path of a YAML file: one of the package's `folder` by name, or any by its path.

    Args:
        what: what the file should be, for the message.
        more: what else may be given, for the message.

    Raises:
        InputError: there is no such file. The message lists those of the folder.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        choices = available(name, list_yaml(folder), f", or the path of a .yaml file{more}")
        raise InputError(f"unknown {what} {name!r}; {choices}")
    return path


def list_yaml(folder: Path) -> list[str]:
    """Return the names of the YAML files in a folder, without their ending."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: the file is missing, is not text, is not YAML, or holds something else than a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}; give the path of one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # YAML's messages have several lines; an error of the command line has one.
        raise InputError(f"{path} is no {what}, or is damaged: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{path} is no {what}: it holds {type(data).__name__}, not a mapping")
    return {str(key): value for key, value in data.items()}


def parse_scalar(text: str) -> Any:
    """Return a value as YAML reads it, except that 1e-5 is the number that it looks like.

    Raises:
        InputError: the text is not YAML.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{text!r} is no value; give a number, true, false or a word") from None
    # YAML 1.1 needs a dot in 1.0e-5; without it, PyYAML reads a text.
    return float(value) if isinstance(value, str) and _is_number(value) else value


def dump_yaml(data: Any) -> str:
    """Return YAML text that keeps the order of the data and puts short lists and mappings on one line."""
    text: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110)
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
