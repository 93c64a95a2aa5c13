"""The one reader of structured text (YAML, JSON), and the strict reading of mappings into frozen dataclasses.

Files come from anybody. Size, depth and aliases are bounded, and whatever is wrong with a text is one `InputError`. An unknown
key, a missing key or a wrong type is an error too.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fbnetv3.errors import QUOTED_PATH, InputError, available, check_keys, quote
from fbnetv3.files import is_file

if TYPE_CHECKING:
    import yaml
    from pydantic import ConfigDict

# yaml and pydantic are imported where they are used: the hub reads its registry with torch alone.
STRICT: ConfigDict = {
    "strict": True,
    "extra": "forbid",
}  # for pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
MOST_BYTES = 64 << 20  # of a file; annotations of images may have more
MOST_YAML = 8 << 20  # PyYAML takes a minute for so much
DEEPEST = 100  # lists and mappings inside each other; the deepest file of this package has 8
MOST_ADDED = 100_000  # values that the aliases of a YAML text may add to those that are written
MOST_DIGITS = 1_000  # of a number
TOO_DEEP = f"its lists and mappings are nested more than {DEEPEST} levels deep"
T = TypeVar("T")


def read(cls: type[T], data: Any, where: str, **nested: type) -> T:
    """Return a pydantic dataclass built from a mapping.

    Args:
        where: what is being read; the messages start with it.
        nested: classes of the fields that are themselves mappings of a dataclass.

    Raises:
        InputError: the message names the key, the value and the rule.
    """
    from pydantic import ValidationError

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
        key, given = ".".join(str(part)[:80] for part in first["loc"]), first["input"]
        hint = "; YAML reads 1e-5 as text, write 1.0e-5" if isinstance(given, str) and _is_number(given) else ""
        raise InputError(f"{where}: {key} is {quote(given)}; {first['msg']}{hint}") from None


def find_yaml(name: str, folder: Path, what: str, more: str = "") -> Path:
    """Return the path of a YAML file: one of the package's `folder` by name, or any by its path.

    Args:
        what: what the file should be, for the message.
        more: what else may be given, for the message.

    Raises:
        InputError: there is no such file. The message lists those of the folder.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not is_file(path):
        choices = available(name, list_yaml(folder), f", or the path of a .yaml file{more}")
        raise InputError(f"unknown {what} {quote(name, QUOTED_PATH)}; {choices}")
    return path


def list_yaml(folder: Path) -> list[str]:
    """Return the names of the YAML files in a folder, without their ending."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: the file is missing, is not text, is not YAML, is too large, or holds something else than a mapping.
    """
    data = parse_yaml(read_text(path, what, MOST_YAML), f"{path} is no {what}, or is damaged")
    if not isinstance(data, dict):
        raise InputError(f"{path} is no {what}: it holds {type(data).__name__}, not a mapping")
    return {str(key): value for key, value in data.items()}


def load_json(path: Path, what: str, keys: tuple[str, ...] = (), *, most: int = MOST_BYTES, nan: bool = False) -> Any:
    """Return the content of a JSON file.

    Args:
        keys: entries that the content must have; it is a mapping then.
        most: the largest size in bytes.
        nan: accept NaN and infinities, which are no JSON.

    Raises:
        InputError: the file is missing, is not text, is not JSON, is too large, or lacks one of the `keys`.
    """
    data = parse_json(read_text(path, what, most), f"{path} is no {what}, or is damaged", nan=nan)
    if keys and not (isinstance(data, dict) and data.keys() >= set(keys)):
        raise InputError(f"{path} is no {what}, or is damaged: it needs the entries {', '.join(keys)}")
    return data


def read_text(path: Path, what: str, most: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: the file is missing, is not text, or has more than `most` bytes.
    """
    try:
        content = bytearray()
        with path.open("rb") as file:
            # In pieces, because a device may have no end, and a large `most` would be taken from memory at once.
            while piece := file.read(1 << 20):
                content += piece
                if len(content) > most:
                    raise InputError(f"{path} is no {what}: it has more than {most:,} bytes; give another file")
        return content.decode("utf-8-sig")
    except InputError:  # a ValueError too
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no {what}, or is damaged: {_short(error)}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the {what} {path}: {reason}; give the path of one") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        InputError: it is no YAML; the message starts with `where`. Or it has more depth, aliases or digits than any file has
            that this package reads.
    """
    import yaml

    try:
        return yaml.load(text, _bounded_loader())
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2020-13-45, and the bounds
        raise InputError(f"{where}: {_short(error)}") from None
    except Exception:  # `!!bool maybe` is a KeyError, `!!int ''` an IndexError, and there are more
        raise InputError(f"{where}: a value is not what its tag says, such as `!!bool maybe`") from None


def parse_json(text: str | bytes, where: str, *, nan: bool = False) -> Any:
    """Return the value of a JSON text (or its bytes in UTF-8).

    Args:
        nan: accept NaN and infinities, which are no JSON.

    Raises:
        InputError: it is no JSON, or is nested too deeply; the message starts with `where`.
    """
    try:
        strict: dict[str, Any] = {} if nan else {"parse_constant": _no_number, "parse_float": _finite}
        data = json.loads(text, **strict)
        _check_depth(data)
        return data
    except (ValueError, TypeError, RecursionError) as error:  # TypeError: no text at all
        raise InputError(f"{where}: {_short(error)}") from None


def parse_scalar(text: str) -> Any:
    """Return a value as YAML reads it, except that 1e-5 is the number that it looks like.

    Raises:
        InputError: the text is not YAML.
    """
    try:
        value = parse_yaml(text, "value")
    except InputError:
        raise InputError(f"{quote(text)} is no value; give a number, true, false or a word") from None
    # YAML 1.1 needs a dot in 1.0e-5; without it, PyYAML reads a text.
    return float(value) if isinstance(value, str) and _is_number(value) else value


def dump_yaml(data: Any) -> str:
    """Return YAML text that keeps the order of the data and puts short lists and mappings on one line."""
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110)
    return text


def dump_json(data: Any) -> str:
    """Return JSON text of plain data. Numbers that are not finite become null, because JSON has none."""
    return json.dumps(_finite_or_none(data), indent=1, allow_nan=False)


def _finite_or_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite_or_none(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite_or_none(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(error: Exception) -> str:
    """Return what is wrong in one short line: YAML's messages have several."""
    text = (
        TOO_DEEP
        if isinstance(error, RecursionError)
        else " ".join(str(error).replace('in "<unicode string>", ', "").split())
    )
    return text if len(text) <= 150 else f"{text[:147]}..."


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _check_depth(data: Any) -> None:
    """Raise `ValueError` if lists and mappings are nested too deeply. Python's own limit depends on the caller's depth."""
    level = [data] if isinstance(data, list | dict) else []
    for _ in range(DEEPEST):
        inside = (value for one in level for value in (one.values() if isinstance(one, dict) else one))
        level = [value for value in inside if isinstance(value, list | dict)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


@functools.cache
def _bounded_loader() -> type[yaml.SafeLoader]:
    """Return PyYAML's safe loader with bounds, which hold before any value is made."""
    import yaml

    class Bounded(yaml.SafeLoader):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.depth = self.added = 0
            self.sizes: dict[int, int] = {}  # by the id of a finished node: its values, those behind aliases included

        def compose_node(self, parent: Any, index: Any) -> Any:
            alias = self.check_event(yaml.AliasEvent)
            self.depth += 1
            if self.depth > DEEPEST:
                raise InputError(TOO_DEEP)
            node: Any = super().compose_node(parent, index)
            self.depth -= 1
            if alias:
                # Each alias is a few characters, but ten levels of ten aliases are ten thousand million values.
                self.added += self.sizes.get(id(node), MOST_ADDED + 1)  # a node that is not finished contains itself
                if self.added > MOST_ADDED:
                    raise InputError(f"its aliases stand for more than {MOST_ADDED:,} values, or for themselves")
                return node
            parts: list[Any] = []
            if isinstance(node, yaml.ScalarNode):
                if node.tag.endswith((":int", ":float")) and len(node.value) > MOST_DIGITS:
                    raise InputError(f"a number has {len(node.value)} digits; at most {MOST_DIGITS}")
            elif isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            else:
                parts = node.value
            self.sizes[id(node)] = 1 + sum(self.sizes[id(part)] for part in parts)
            return node

    return Bounded
