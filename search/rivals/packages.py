"""Packages of others that only rivals need. They are extras, imported when a rival is made."""

from __future__ import annotations

import importlib
from types import ModuleType

from fbnetv3.errors import InputError


def load_package(name: str) -> ModuleType:
    """Return a package that a rival needs.

    Raises:
        InputError: it is missing; the message says how it is installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"the package {name} is missing: pip install 'fbnetv3[compare]'") from None
