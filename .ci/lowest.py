"""Print pip constraints: the lowest version of every dependency that pyproject.toml allows, and of what the tests need.

    python .ci/lowest.py > lowest.txt

Optional dependencies have lower bounds too, but each has to fit one version of torch, so they cannot be tested together.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib  # every environment has pip, and nothing is installed yet

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
TEST_TOOLS = ("pytest", "pytest-xdist", "hypothesis", "tomli")
_BOUND = re.compile(r"([\w-]+)>=([\w.]+)")  # a marker or an upper bound may follow


def lowest(project: dict[str, Any]) -> dict[str, str]:
    """Return the lowest version by name. A dependency without lower bound is a mistake."""
    found = {}
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["test"]):
        if requirement.startswith("fbnetv3["):  # the test extra names the other extras
            continue
        match = _BOUND.match(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in {PYPROJECT} has no lower bound")
        if requirement in project["dependencies"] or match[1] in TEST_TOOLS:
            found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    for name, version in lowest(tomllib.loads(PYPROJECT.read_text())["project"]).items():
        print(f"{name}=={version}")
