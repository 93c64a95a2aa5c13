"""Public names of a package that are imported on first use, so that importing the package itself stays fast.

    __getattr__, __dir__ = lazy_names(__name__, {"fit": "fbnetv3.training.loop"})

A package should not give a public name to a thing that is called like one of its own modules: importing that module would
bind the name to the module instead.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions `__getattr__` and `__dir__` of a package, which Python calls for names that are not there yet.

    Args:
        package: the package's `__name__`.
        modules: the module that defines each public name. A module of the package itself (`hub` in `fbnetv3.hub`) is public
            if it is its own entry.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(modules[name])
        value = module if modules[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)  # Python finds it there the next time
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names
