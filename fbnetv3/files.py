"""Files that are complete or not there at all, and reading what torch saved without running code.

A file is written under a temporary name, flushed to disk and then renamed, which the operating system does in one step.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import pickle
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fbnetv3.errors import InputError

logger = logging.getLogger(__name__)

LOCK = ".lock"
LOOK_SECONDS = 0.05  # more than a look at a lock takes
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems have no locks


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


def refuse_to_overwrite(path: str | Path, overwrite: bool) -> None:
    """Raise `InputError` if there is something at a path already, unless the user wants it to be replaced.

    A command calls it before its work starts, for every file that it will write outside of a folder that it continues.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a file to write")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; give --overwrite to replace it, or another path")


@contextlib.contextmanager
def lock_folder(folder: str | Path, what: str) -> Iterator[None]:
    """Keep other processes out of a folder while the `with` block runs. Enter it before anything is written there.

    The folder is created if necessary, and removed again if the block leaves nothing in it. The system takes the lock away
    from a process that was killed, so a lock file that is left behind does no harm.

    Args:
        what: what uses the folder, such as "search", for the message.

    Raises:
        InputError: another process has the lock, or the folder cannot be written.
    """
    folder = Path(folder)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = _take_lock(folder, what)
    try:
        yield
    finally:
        # The lock is given back last: a process that opened this file meanwhile sees that it is not in the folder any more.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)
        with contextlib.suppress(OSError):  # a folder that holds something stays
            for path in created:
                path.rmdir()


def is_locked(folder: str | Path) -> bool | None:
    """Return whether a process has the lock of a folder. Nothing is written, and that process is not disturbed.

    None where this cannot be told: the lock may not be read, or the file system has no locks.
    """
    try:
        handle = os.open(Path(folder) / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        _flock(handle, shared=True)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)


def _take_lock(folder: Path, what: str) -> int:
    """Return the open file that holds the lock of a folder."""
    refused = False
    while True:
        path = make_folder(folder) / LOCK
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the process before removed its empty folder
            continue
        except OSError as error:
            raise InputError(f"cannot lock {path}: {error.strerror}; remove it, or give another folder") from error
        try:
            _flock(handle)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            if not refused:  # `is_locked` of another process may have had it for a moment
                refused = True
                time.sleep(LOOK_SECONDS)
                continue
            raise InputError(
                f"{folder} is in use by another {what}; wait until that has ended, or give another folder"
            ) from None
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning("%s cannot be locked (%s); do not write it from two processes", folder, error.strerror)
                return handle
            os.close(handle)
            raise
        os.close(handle)  # the process before removed this file; the next one makes its own


def _flock(handle: int, shared: bool = False) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        raise OSError(errno.ENOSYS, "this system has no such locks") from None
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


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


_PLAIN: list[Any] = [argparse.Namespace]  # timm keeps the arguments of a training in one; making it runs no code


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in _PICKLES


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
    if not is_file(path):
        raise InputError(f"no {what} at {path}: no such file; give the path of one that fbnetv3 wrote")
    try:
        # An open file: of a path, torch takes the suffix for the format.
        with path.open("rb") as file, torch.serialization.safe_globals(_PLAIN):
            content = torch.load(file, map_location="cpu", weights_only=not trust)
    except Exception as error:  # the unpickler raises anything, depending on the damage
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise InputError(
                f"{path} holds more than tensors and plain data{f' ({found[1]})' if found else ''}, or is damaged. It was not "
                "loaded, because a pickle can run code. If it has weights and you trust its origin, convert it on a machine "
                f"that has nothing to lose: fbnetv3 weights convert {path} OUT.safetensors --model NAME --trust-pickle"
            ) from error
        raise InputError(f"{path} is no {what} or is damaged ({type(error).__name__}); give a complete file") from error
    if keys and (not isinstance(content, dict) or any(key not in content for key in keys)):
        raise InputError(f"{path} is no {what}: it needs the entries {', '.join(keys)}; give a file that fbnetv3 wrote")
    return content
