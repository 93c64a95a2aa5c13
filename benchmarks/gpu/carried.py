"""Which of the carried wheels a GPU machine lacks, and their installation into a temporary folder, without network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CARRIED = Path(__file__).with_name("carried")  # filled by wheels.sh, ignored by git
PROJECT = (
    Path(__file__).parents[2] / "pyproject.toml"
)  # with the oldest version of each package that this project needs


def missing_wheels(wheels: Iterable[Path]) -> list[Path]:
    """Return the wheels whose package this Python lacks, or has in a version that is too old for this project."""
    # What is there and new enough is used: it was chosen together with the machine's other packages.
    least = _least_versions(PROJECT.read_text(encoding="utf-8"))
    return [wheel for wheel in sorted(wheels) if _is_missing(_package(wheel), least)]


def lacking_packages(wheels: Iterable[Path]) -> list[str]:
    """Return the packages that this project always needs, and that neither this Python nor the wheels have."""
    carried = {_package(wheel) for wheel in wheels}
    needed = PROJECT.read_text(encoding="utf-8").partition("\ndependencies = [")[2].partition("]")[0]
    least = _least_versions(needed)
    return [package for package in least if package not in carried and _is_missing(package, least)]


def _least_versions(text: str) -> dict[str, str]:
    """Return the least version of each package that a text of pyproject.toml names."""
    return dict(re.findall(r'"([\w.-]+)>=([\w.]+)"', text))


def _package(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-")


def _is_missing(package: str, least: Mapping[str, str]) -> bool:
    try:
        found = version(package)
    except PackageNotFoundError:
        return True
    return _numbers(found) < _numbers(least.get(package, "0"))


def _numbers(text: str) -> list[int]:
    """Return the numbers of a version. Every dependency is released with versions of numbers."""
    return [int(number) for number in re.findall(r"\d+", text)]


def install(wheels: Iterable[Path], folder: Path) -> None:
    """Install wheels into a folder, without what they depend on and without network.

    Raises:
        subprocess.CalledProcessError: pip refused; it has printed why.
    """
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, wheels)], check=True)
