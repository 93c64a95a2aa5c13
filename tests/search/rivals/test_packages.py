"""Packages that only rivals need."""

import sys

import pytest

from fbnetv3 import InputError
from fbnetv3.search.rivals.packages import load_package


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"the package optuna is missing: pip install 'fbnetv3\[compare\]'"):
        load_package("optuna")
    assert load_package("json").__name__ == "json"
