"""Files of weights from the network into torch.hub's cache: whole, and the same ones as the first time.

A download goes to a temporary file and takes its place only when it is complete. At its first use its sha256 is written
beside it (`NAME.sha256`, as sha256sum has it); it is checked at every later use, and against the published one where there
is one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import torch

from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20


def cache_path(url: str, label: str = "weights") -> Path:
    """Where the file of a URL is kept: in torch.hub's folder, under a name that no other URL has.

    A `file:` URL means the file itself, which is not copied.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path))
    name = f"{label}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{Path(parts.path).suffix or '.pth'}"
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def fetch(url: str, path: Path, sha256: str | None = None, progress: bool = True) -> Path:
    """The file of a URL at `path` (its `cache_path`), downloaded unless it is there.

    Args:
        sha256: published hash, or its first digits.
        progress: show a bar on stderr.

    Raises:
        InputError: the file cannot be fetched, is incomplete, or is not the one that is expected; nothing is left behind.
    """
    if urlsplit(url).scheme == "file":
        if not path.is_file():
            raise InputError(f"no weight file at {path}: no such file")
        if sha256 is not None:
            _compare(file_hash(path), path, sha256, f"{path} was damaged or replaced")
        return path
    if not path.exists():
        _download(url, path, sha256, progress)
    check_hash(path, sha256)
    return path


def check_hash(path: Path, sha256: str | None = None) -> str:
    """The sha256 of a file, which must be the published and the recorded one; the first time, it is recorded.

    Raises:
        InputError: it is another.
    """
    digest = file_hash(path)
    _compare(digest, path, sha256, f"{path} was damaged or replaced; delete it to download it again")
    if recorded_hash(path) is None:
        _record(path, digest)
    return digest


def file_hash(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def recorded_hash(path: Path) -> str | None:
    """The sha256 that was recorded when the file was first used."""
    record = _record_path(path)
    return record.read_text().split()[0] if record.is_file() and record.read_text().strip() else None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record(path: Path, digest: str) -> None:
    write_atomically(_record_path(path), f"{digest}  {path.name}\n")


def _compare(digest: str, path: Path, published: str | None, what: str) -> None:
    """Raise unless a hash is the published one (or begins like it) and the recorded one."""
    for origin, expected in (("published", published), ("recorded at first use", recorded_hash(path))):
        if expected is not None and not digest.startswith(expected):
            hint = "" if origin == "published" else f" (and {_record_path(path)}, if you trust the new file)"
            raise InputError(f"sha256 is {digest}, but {origin}: {expected}: {what}{hint}")


def _download(url: str, path: Path, sha256: str | None, progress: bool) -> None:
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _receive(url, file, progress)
            file.flush()
            os.fsync(file.fileno())
        _compare(digest, path, sha256, f"{url} does not serve that file; it was not kept")
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105
    except (
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:  # unreachable, cut off, disk full
        if isinstance(error, InputError):
            raise
        reason = (
            f"the server answers {error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else error
        )
        raise InputError(
            f"cannot download {url} ({reason}). Without a network: download it elsewhere and save it as {path}"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _receive(url: str, file: object, progress: bool) -> str:
    """Write what a URL serves, all of it, and give its sha256."""
    request = urllib.request.Request(url, headers={"User-Agent": "fbnetv3"})
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with torch.hub.tqdm(  # type: ignore[attr-defined]
            total=total, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024
        ) as bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)  # type: ignore[attr-defined]
                digest.update(chunk)
                received += len(chunk)
                bar.update(len(chunk))
    if total is not None and received != total:
        raise OSError(f"the connection ended after {received} of {total} bytes")
    return digest.hexdigest()
