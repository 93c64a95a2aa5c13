"""Files that are whole or absent: write to a temporary name, flush to disk, rename."""

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


def make_folder(path: str | Path) -> Path:
    """Make a folder, so that a long run finds out before it begins that it could not write.

    Raises:
        InputError: it cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(
            f"cannot write into {path}: {error.strerror or error}; give a folder that can be written"
        ) from error


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Raises:
        InputError: the folder does not exist or cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; give a folder that can be written"
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108


def save_torch(path: str | Path, content: Any) -> None:
    """`torch.save`, atomically."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


_PICKLES = (b"PK", *(bytes((0x80, protocol)) for protocol in range(2, 6)))  # torch's archive, and bare pickles


def load_torch(path: str | Path, what: str, keys: tuple[str, ...] = (), *, trust: bool = False) -> Any:
    """Load what `torch.save` wrote, tensors and plain data only (no pickled code runs), unless it is to be trusted.

    Raises:
        InputError: the file is missing, damaged, holds more than tensors and plain data, or has not the `keys` that a
            `what` has.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no {what} at {path}: no such file; give the path of one that fbnetv3 wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # the unpickler raises whatever the damage provokes
        if isinstance(error, pickle.UnpicklingError) and path.read_bytes()[:2] in _PICKLES:
            raise InputError(
                f"{path} holds more than tensors and plain data, or is damaged; it was not loaded, since a pickle can run "
                "code. If you trust where it comes from, convert it in a place that has nothing to lose: "
                f"fbnetv3 weights convert {path} OUT.safetensors --model NAME --trust-pickle"
            ) from error
        raise InputError(
            f"{path} is no {what} or is damaged ({type(error).__name__}); give a file that fbnetv3 wrote"
        ) from error
    if keys and (not isinstance(content, dict) or any(key not in content for key in keys)):
        raise InputError(f"{path} is no {what}: it needs the entries {', '.join(keys)}; give a file that fbnetv3 wrote")
    return content
