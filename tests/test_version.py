"""The version is typed in one place."""

import re

import fbnetv3
from fbnetv3 import version
from tests.places import ROOT


def test_the_version_is_typed_once():
    assert fbnetv3.__version__ == version.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version.__version__)
    for name in ("pyproject.toml", "CITATION.cff", "fbnetv3/__init__.py", "fbnetv3/cli/__init__.py"):
        assert version.__version__ not in (ROOT / name).read_text().replace("cff-version", ""), name
    assert 'version = { attr = "fbnetv3.version.__version__" }' in (ROOT / "pyproject.toml").read_text()
