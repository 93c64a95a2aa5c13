"""The text that names a data set (see `load.load_data`), from any working folder, and what its images are wherever they are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from fbnetv3.errors import InputError, quote
from fbnetv3.training.data.packaged import DATA

# The end of the name that `load_data` gives to images that are not in the package: sizes, and a hash of names and labels.
_CONTENT = re.compile(r"\([^()]*id (\w+)\)$")


LONGEST = 4096  # of a path, for Linux


def check_spec(spec: str) -> str:
    """Return the text after a check that it can name anything: the system refuses some names with errors of its own.

    Raises:
        InputError: it is empty, has a part that no file can be called, or characters that no name can have.
    """
    try:
        usable = (
            0 < len(spec) < LONGEST
            and "\0" not in spec
            and all(len(os.fsencode(part)) < 256 for part in re.split("[/:]", spec))
        )
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise InputError(f"data {quote(spec)} names no images; give a data set, or the path of a folder")
    return spec


def home_path(path: str) -> Path:
    """Return a path in which `~` stands for the home folder. Unlike `Path.expanduser`, an unknown user is a name like any."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def absolute_spec(spec: str, folder: Path | None = None) -> str:
    """Return the text with absolute paths, so that it names the same images in every working folder.

    What is not there stays as it is, so that errors show what was given.

    Args:
        folder: relative paths are below it or, if nothing is there, below the working folder.
    """
    if not spec or check_spec(spec) in DATA:
        return spec
    kind, mark, rest = spec.partition(":")
    if mark and kind == "memory":
        return f"{kind}:{absolute_spec(rest, folder)}"
    if mark and kind == "list":
        return ":".join([kind, *(_absolute(path, folder) for path in rest.split(":", 1))])
    if mark and kind == "torchvision":
        name, mark, path = rest.partition(":")
        return f"{kind}:{name}{mark}{_absolute(path, folder)}"
    kind, mark, rest = spec.partition("/")
    if mark and kind in ("wds", "hfds"):
        path, mark, column = rest.partition("#") if kind == "hfds" else (rest, "", "")
        return f"{kind}/{_absolute(path, folder)}{mark}{column}"
    return _absolute(spec, folder)


def content_id(name: str) -> str:
    """Return the part of a data set's name that says which images it has, whatever the folder is called that has them.

    Args:
        name: the name of `Data`.
    """
    found = _CONTENT.search(name)
    return found[1] if found else name


def same_images(one: Any, other: Any) -> bool:
    """Tell whether two names of data are the same but for the name of the folder that has the images."""
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return bool(one == other)
    found = [_CONTENT.search(name) for name in (one, other)]
    return None not in found and len({match[0] for match in found if match}) == 1


def _absolute(path: str, folder: Path | None) -> str:
    for base in (folder, Path()):
        # An empty text would name the folder itself.
        if path and base is not None and (found := base / home_path(path)).exists():
            return os.path.abspath(found)  # noqa: PTH100  (links stay links)
    return path
