"""Which of the carried wheels a GPU machine lacks, and their installation into a temporary folder, without network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CARRIED = Path(__file__).with_name("carried")  # filled by wheels.sh, ignored by git


def missing_wheels(wheels: Iterable[Path]) -> list[Path]:
    """Return the wheels whose package this Python lacks. A package that is there is used, whatever its version."""
    # Another version of what is there could not fit the machine's own packages, which were chosen together.
    return [wheel for wheel in sorted(wheels) if not _is_installed(wheel.name.split("-")[0])]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def install(wheels: Iterable[Path], folder: Path) -> None:
    """Install wheels into a folder, without what they depend on and without network.

    Raises:
        subprocess.CalledProcessError: pip refused; it has printed why.
    """
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, wheels)], check=True)
