"""WebDataset's tar files, read by place: an uncompressed tar can be read anywhere once its headers are known."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fbnetv3.errors import InputError
from fbnetv3.training.data.image_files import SPELLINGS, ImageCollection, ImageSource, decode

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True, eq=False)
class Shards:
    """Samples of WebDataset's tar files."""

    shards: tuple[Path, ...]
    keys: np.ndarray  # as bytes
    places: np.ndarray  # int64 [n, 3]: shard, first byte, bytes
    labels: np.ndarray

    def name(self, index: int) -> str:
        """Shard and key."""
        return f"{self.shards[self.places[index, 0]].name}:{os.fsdecode(bytes(self.keys[index]))}"

    def read(self, index: int) -> Any:
        """See `ImageCollection.read`."""
        return decode(lambda: Image.open(io.BytesIO(self._bytes(index))), self.name(index))

    def _bytes(self, index: int) -> bytes:
        shard, start, size = self.places[index]
        with self.shards[shard].open("rb") as file:
            file.seek(int(start))
            content: bytes = file.read(int(size))
            return content


def open_shards(root: Path) -> ImageSource:
    """Shards of a folder, by the splits in `_info.json` or in their names; classes are called by their numbers.

    Raises:
        InputError: no shards, a damaged one, or a sample without picture or label.
    """
    splits: dict[str, ImageCollection] = {}
    for split, names in SPELLINGS.items():
        if shards := _shards(root, names):
            splits[split] = _index(shards)
    if not splits:
        raise InputError(f"no shards in {root}; expected tar files with the split in the name, such as train-0000.tar")
    count = 1 + max(int(pictures.labels.max()) for pictures in splits.values())
    return ImageSource(f"wds/{root.resolve().name}", tuple(map(str, range(count))), splits)


def _shards(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Shards of a split: those that `_info.json` lists, as timm writes it, or else whose names say it."""
    info = root / "_info.json"
    if info.is_file():
        try:
            listed = json.loads(info.read_text(encoding="utf-8"))["splits"]
            return [root / file for name in names if name in listed for file in listed[name]["filenames"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{info}: expected splits, each with filenames ({error!r}); mend it or remove it"
            ) from None
    return [path for path in sorted(root.glob("*.tar")) if set(re.split(r"[-_.]", path.stem)) & set(names)]


def _index(shards: list[Path]) -> Shards:
    """Note where every picture lies: a pass over the headers, some seconds a 100,000 pictures."""
    rows = [(number, *sample) for number, shard in enumerate(shards) for sample in _samples(shard)]
    keys = np.array([os.fsencode(key) for _, key, *_ in rows])
    places = np.array([(number, start, size) for number, _, start, size, _ in rows], dtype=np.int64)
    return Shards(tuple(shards), keys, places, np.array([row[-1] for row in rows], dtype=np.int64))


def _samples(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """Key, first byte, bytes and label of every sample of a shard."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                sample = found.setdefault(folder + slash + key, {})
                if ending.lower() in IMAGE_ENDINGS:
                    sample["image"] = (member.offset_data, member.size)
                elif ending == "cls":
                    sample["label"] = int(tar.extractfile(member).read())  # type: ignore[union-attr]
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{shard} is no WebDataset shard that can be read: {error}") from error
    for key, sample in found.items():
        if set(sample) != {"image", "label"} or sample["label"] < 0:
            raise InputError(
                f"{shard}: sample {key!r} needs a {' or '.join(IMAGE_ENDINGS)}, and a cls file with a number from 0"
            )
        yield key, *sample["image"], sample["label"]
