"""Packages that only rivals need."""

import re
import sys

import pytest

from fbnetv3 import InputError
from fbnetv3.search.rivals.packages import EXTRAS, load_package
from tests.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"the package optuna is missing: pip install 'fbnetv3\[compare\]'"):
        load_package("optuna")
    monkeypatch.setitem(sys.modules, "smac.runhistory", None)
    with pytest.raises(
        InputError, match=r"the package smac is missing: pip install 'fbnetv3\[smac\]', or leave out what"
    ):
        load_package("smac.runhistory")
    assert load_package("json").__name__ == "json"


def test_the_extras_have_the_packages():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        # SMAC brings ConfigSpace with it.
        assert package == "ConfigSpace" or any(re.match(rf"{package}\b", line) for line in extras[extra])
