"""Public names that are imported on first use: what they are, and that type checkers are told the same."""

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fbnetv3.lazy import lazy_names
from tests.places import ROOT

# Packages whose public names are lazy.
PACKAGES = (
    "fbnetv3",
    "fbnetv3.hub",
    "fbnetv3.inference",
    "fbnetv3.recipes",
    "fbnetv3.search",
    "fbnetv3.training",
    "fbnetv3.training.data",
    "fbnetv3.training.network",
)


@pytest.fixture
def package(monkeypatch):
    """A package in memory with the public names `sqrt` (of math) and the module `fractions`."""
    module = types.ModuleType("lazy_example")
    monkeypatch.setitem(sys.modules, "lazy_example", module)
    monkeypatch.setitem(sys.modules, "lazy_example.fractions", importlib.import_module("fractions"))
    table = {"sqrt": "math", "fractions": "lazy_example.fractions"}
    module.__getattr__, module.__dir__ = lazy_names("lazy_example", table)
    return module


def test_a_name_is_imported_once_and_then_kept(package):
    import math

    assert "sqrt" not in vars(package)
    assert package.sqrt is math.sqrt
    assert vars(package)["sqrt"] is math.sqrt


def test_a_module_of_the_package_is_public_as_itself(package):
    assert package.fractions is importlib.import_module("fractions")


def test_names_are_listed_before_they_are_imported(package):
    assert {"sqrt", "fractions", "__name__"} <= set(dir(package))
    assert dir(package) == sorted(dir(package))


def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="module 'lazy_example' has no attribute 'cube'"):
        package.cube  # noqa: B018
    assert not hasattr(package, "cube")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there_and_no_module_hides_it(name):
    package = importlib.import_module(name)
    folder = Path(package.__file__).parent
    assert sorted(package.__all__) == package.__all__ == list(dict.fromkeys(package.__all__))
    for public in package.__all__:
        assert not isinstance(getattr(package, public), types.ModuleType), public
        assert not (folder / f"{public}.py").exists(), f"importing {name}.{public} would bind the name to the module"
        assert public in dir(package)


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_see_the_same_names(name):
    package = importlib.import_module(name)
    blocks = [node for node in ast.parse(Path(package.__file__).read_text()).body if isinstance(node, ast.If)]
    (typed,) = (node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING")
    imports = {alias.asname: (node.module, alias.name) for node in typed.body for alias in node.names}
    assert all(alias == original for alias, (_, original) in imports.items())
    modules = {public: module for public, (module, _) in imports.items()}
    assert modules == package._MODULES


def test_importing_the_package_imports_not_even_torch():
    script = "import sys, fbnetv3, fbnetv3.training, fbnetv3.inference; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
