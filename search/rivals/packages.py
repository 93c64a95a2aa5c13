"""Packages of others that only rivals need. They are extras, imported when a rival is made."""

from __future__ import annotations

import importlib
from types import ModuleType

from fbnetv3.errors import InputError

EXTRAS = {"optuna": "compare", "cmaes": "compare", "smac": "smac", "ConfigSpace": "smac"}


def load_package(name: str) -> ModuleType:
    """Return a package that a rival needs, one of `EXTRAS`, or a module of it.

    Raises:
        InputError: it is missing; the message says how it is installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise InputError(
            f"the package {package} is missing: pip install 'fbnetv3[{EXTRAS[package]}]', or leave out what needs it"
        ) from None
