"""Downloads of weight files into torch.hub's cache: always complete, and always the same as at their first use.

A download goes to a temporary file, which replaces the final one when it is complete. The first use of a file writes its
sha256 beside it (`NAME.sha256`, in the format of sha256sum). Every later use compares the file with this recorded hash, and
with the published hash if there is one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

import torch

from fbnetv3.errors import InputError, quote
from fbnetv3.files import is_file, make_folder, write_atomically
from fbnetv3.schema import read_text

TIMEOUT = 30.0  # seconds without a byte, not for the whole download
_CHUNK = 1 << 20


def cache_path(url: str, label: str = "weights") -> Path:
    """Return where the file of a URL is kept: in torch.hub's folder, under a name that no other URL has.

    The path of a `file:` URL is that file itself, which is not copied.
    """
    parts = _split(url)
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path))
    # A label comes from a registry, which anybody may have written: with a slash it would lead out of the folder.
    label = re.sub(r"[^\w.-]", "_", label)
    # Two URLs may end in the same file name, so the name contains a hash of the whole URL.
    name = f"{label}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{Path(parts.path).suffix or '.pth'}"
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def is_downloaded(url: str) -> bool:
    """Return whether the file of a URL or path is a copy in the cache, which the user may delete."""
    return "://" in url and _split(url).scheme != "file"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # such as a bracket that is not closed
        raise InputError(f"{quote(url)} is no URL ({error}); give another one, or a path") from None


def fetch(url: str, path: Path, sha256: str | None = None, progress: bool = True) -> Path:
    """Download a URL to `path`, which is its `cache_path`, unless the file exists. Check its hash and return `path`.

    Args:
        sha256: the published hash, or its first digits.
        progress: show a bar on stderr.

    Raises:
        InputError: the file cannot be downloaded completely, or is not the expected one. A failed download leaves no file.
    """
    if _split(url).scheme == "file":
        if not is_file(path):
            raise InputError(f"no weight file at {path}: no such file; give another URL, or a path")
        # A file that is used where it is was not made here: it gets no record, and nobody is told to delete it.
        if sha256 is not None and not (digest := file_hash(path)).startswith(sha256):
            raise InputError(
                f"sha256 is {digest}, but published: {sha256}: {path} was damaged or replaced; get the file again from its "
                "origin"
            )
        return path
    if not path.exists():
        _download(url, path, sha256, progress)
    check_hash(path, sha256)
    return path


def check_hash(path: Path, sha256: str | None = None) -> str:
    """Return the sha256 of a file after comparing it with the published and the recorded one; record it the first time.

    Raises:
        InputError: the hash is another one.
    """
    digest = file_hash(path)
    _check(digest, path, sha256, f"{path} was damaged or replaced; delete it to download it again")
    if recorded_hash(path) is None:
        write_atomically(_record_path(path), f"{digest}  {path.name}\n")
    return digest


def file_hash(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a file that can be read") from None
    return digest.hexdigest()


def recorded_hash(path: Path) -> str | None:
    """Return the sha256 that was recorded at the first use of a file, or None if the file was never used."""
    record = _record_path(path)
    words = read_text(record, "record of a hash", _CHUNK).split() if record.is_file() else []
    return words[0] if words else None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _check(digest: str, path: Path, published: str | None, reason: str) -> None:
    """Raise `InputError` unless a hash starts with the published one and equals the recorded one, as far as they exist."""
    for origin, expected in (("published", published), ("recorded at first use", recorded_hash(path))):
        if expected is not None and not digest.startswith(expected):
            # A server may replace a file on purpose. Then the user decides, and deletes the record too.
            hint = "" if origin == "published" else f" (and {_record_path(path)}, if you trust the new file)"
            raise InputError(f"sha256 is {digest}, but {origin}: {expected[:64]}: {reason}{hint}")


def _download(url: str, path: Path, sha256: str | None, progress: bool) -> None:
    """Download a URL to `path`, complete or not at all."""
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _receive(url, file, progress)
            file.flush()
            os.fsync(file.fileno())
        _check(digest, path, sha256, f"{url} does not serve the expected file; the download was not kept")
        Path(temporary).chmod(0o644)  # mkstemp's files are private, a cache may be shared
        os.replace(temporary, path)  # noqa: PTH105
    except InputError:  # a ValueError too, with a message of its own
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # unreachable, cut off, disk full, bad URL
        reason = (
            f"the server answers {error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else error
        )
        raise InputError(
            f"cannot download {url} ({reason}). Without a network: download it elsewhere and save it as {path}"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _receive(url: str, file: IO[bytes], progress: bool) -> str:
    """Write what a URL serves into a file and return its sha256.

    Raises:
        OSError: the connection failed, or ended before the announced length.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "fbnetv3"})  # some servers refuse Python's default
    digest, received = hashlib.sha256(), 0
    hub: Any = torch.hub  # its `tqdm` is not in torch's types
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with hub.tqdm(total=total, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024) as bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                bar.update(len(chunk))
    # http.client does not complain when a connection ends early.
    if total is not None and received != total:
        raise OSError(f"the connection ended after {received} of {total} bytes")
    return digest.hexdigest()
