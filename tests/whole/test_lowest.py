"""The constraints with which CI installs the lowest versions are those of pyproject.toml."""

import importlib.util
import subprocess
import sys

import pytest

from tests.places import ROOT
from tests.whole.test_layout import tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lowest():
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lowest


def test_every_dependency_has_a_lower_bound(lowest):
    found = lowest(PROJECT)
    assert [f"{name}>={version}" for name, version in found.items()][: len(PROJECT["dependencies"])] == PROJECT[
        "dependencies"
    ]
    assert found.keys() > {"torch", "pytest", "pytest-xdist", "hypothesis"}
    with pytest.raises(ValueError, match=r"'torch' .* has no lower bound"):
        lowest(PROJECT | {"dependencies": ["torch"]})


def test_the_script_prints_constraints_of_pip():
    done = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    assert "torch==2.5\n" in done.stdout
    assert all(line.count("==") == 1 for line in done.stdout.splitlines())


def test_ci_installs_them():
    assert 'python .ci/lowest.py > "$work/lowest.txt"' in (ROOT / ".ci" / "run").read_text()
