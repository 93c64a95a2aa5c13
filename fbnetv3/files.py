"""Files that are complete or not there at all, and reading what torch saved without running code.

A file is written under a temporary name, flushed to disk and then renamed, which the operating system does in one step.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

from fbnetv3.errors import InputError


def is_file(path: str | Path) -> bool:
    """Return whether there is such a file. Unlike `Path.is_file`, it takes any text, also a name that is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def make_folder(path: str | Path) -> Path:
    """Create a folder and check that it can be written, so that a long run fails at its start and not at its end.

    Raises:
        InputError: the folder cannot be created or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Trying is the only reliable check: permissions say nothing of a read-only or full file system.
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(
            f"cannot write into {path}: {error.strerror or error}; give a folder that can be written"
        ) from error


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file. A reader sees the old content or the new one, never a part of it, even after a crash.

    Raises:
        InputError: the folder cannot be created or written, or the disk is full. Nothing is left behind.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: a rename is one step only within a file system.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # Without this the name may reach the disk before the content, and a power failure leaves an empty file.
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # temporary files are private
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; give a folder that can be written"
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):  # after the rename it is not there any more
                os.unlink(temporary)  # noqa: PTH108


def save_torch(path: str | Path, content: Any) -> None:
    """Write a file in torch's format, atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


_PICKLES = (b"PK", *(bytes((0x80, protocol)) for protocol in range(2, 6)))  # torch's zip archive, and plain pickles


def load_torch(path: str | Path, what: str, keys: tuple[str, ...] = (), *, trust: bool = False) -> Any:
    """Return what `torch.save` wrote: tensors and plain data. No code of the file runs.

    Args:
        what: what the file should be, for the messages.
        keys: entries that the content must have.
        trust: accept any pickle. Its code runs.

    Raises:
        InputError: the file is missing or damaged, holds more than tensors and plain data, or lacks one of the `keys`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no {what} at {path}: no such file; give the path of one that fbnetv3 wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # the unpickler raises anything, depending on the damage
        if isinstance(error, pickle.UnpicklingError) and path.read_bytes()[:2] in _PICKLES:
            raise InputError(
                f"{path} holds more than tensors and plain data, or is damaged. It was not loaded, because a pickle can run "
                "code. If you trust its origin, convert it on a machine that has nothing to lose: "
                f"fbnetv3 weights convert {path} OUT.safetensors --model NAME --trust-pickle"
            ) from error
        raise InputError(
            f"{path} is no {what} or is damaged ({type(error).__name__}); give a file that fbnetv3 wrote"
        ) from error
    if keys and (not isinstance(content, dict) or any(key not in content for key in keys)):
        raise InputError(f"{path} is no {what}: it needs the entries {', '.join(keys)}; give a file that fbnetv3 wrote")
    return content
