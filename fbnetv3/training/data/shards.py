"""WebDataset's tar files as images that can be read in any order.

Once the headers of an uncompressed tar are known, every file in it can be read directly.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fbnetv3.errors import QUOTED_PATH, InputError, quote
from fbnetv3.schema import load_json
from fbnetv3.training.data.image_files import SPELLINGS, ImageCollection, ImageSource, decode
from fbnetv3.training.data.listing import is_hidden

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
# Every number up to the largest label is a class. A million are far above any set, and their names still fit into memory.
MOST_CLASSES = 1_000_000
LONGEST_LABEL = 4096  # bytes of a cls file: a number, and blanks around it


@dataclass(frozen=True, eq=False)
class Shards:
    """Images in the tar files of WebDataset.

    Attributes:
        keys: key of every sample, as bytes.
        places: int64 [n, 3]: number of the shard, first byte and number of bytes of every image.
    """

    shards: tuple[Path, ...]
    keys: np.ndarray
    places: np.ndarray
    labels: np.ndarray

    def name(self, index: int) -> str:
        """Return the name of the shard and the key of the sample."""
        return f"{self.shards[self.places[index, 0]].name}:{os.fsdecode(bytes(self.keys[index]))}"

    def read(self, index: int) -> Any:
        """Return an image, as `ImageCollection.read` describes."""
        return decode(lambda: Image.open(io.BytesIO(self._bytes(index))), self.name(index))

    def _bytes(self, index: int) -> bytes:
        shard, start, size = self.places[index]
        # Opened for every image: an open file could not be shared with worker processes.
        with self.shards[shard].open("rb") as file:
            file.seek(int(start))
            content: bytes = file.read(int(size))
            return content


def open_shards(root: Path) -> ImageSource:
    """Find the shards of a folder. `_info.json` or the names of the shards say which split they belong to.

    The classes have numbers as names, because WebDataset has no others.

    Raises:
        InputError: there are no shards, a shard is damaged, or a sample has no image or no label that can be a class.
    """
    splits: dict[str, ImageCollection] = {}
    for split, names in SPELLINGS.items():
        if shards := _shards(root, names):
            splits[split] = _index(shards)
    if not splits:
        raise InputError(f"no shards in {root}; expected tar files with the split in the name, such as train-0000.tar")
    count = 1 + max(int(images.labels.max()) for images in splits.values())
    return ImageSource(f"wds/{root.resolve().name}", tuple(map(str, range(count))), splits)


def _shards(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the shards of a split: those in `_info.json`, which timm writes, or else those with the split in their names."""
    info = root / "_info.json"
    if not info.is_file():
        # Whole words of the name: "constrain-0000" is no shard of train.
        return [
            path
            for path in sorted(root.glob("*.tar"))
            if not is_hidden(path.name) and set(re.split(r"[-_.]", path.stem)) & set(names)
        ]
    try:
        listed = load_json(info, "description of shards")["splits"]
        files = [file for name in names if name in listed for file in listed[name]["filenames"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{info}: expected splits, each with filenames ({error!r:.80}); correct the file or remove it"
        ) from None
    for file in files:
        # Nothing outside the folder is read. A link inside the folder may lead out: caches of downloads have such links.
        if not isinstance(file, str) or not file or Path(file).is_absolute() or ".." in Path(file).parts:
            raise InputError(f"{info}: {quote(file)} is no file in {root}; give the names of files below this folder")
    return [root / file for file in files]


def _index(shards: list[Path]) -> Shards:
    """Find out where every image begins. All headers are read once, which takes some seconds for 100,000 images."""
    rows = [(number, *sample) for number, shard in enumerate(shards) for sample in _samples(shard)]
    if not rows:
        raise InputError(
            f"{_shown(shards[0])}: there is no sample in it; a sample is an image and a cls file of the same name"
        )
    keys = np.array([os.fsencode(key) for _, key, *_ in rows])
    places = np.array([(number, start, size) for number, _, start, size, _ in rows], dtype=np.int64)
    return Shards(tuple(shards), keys, places, np.array([row[-1] for row in rows], dtype=np.int64))


def _samples(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield the key, the first byte, the number of bytes and the label of every sample of a shard."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:  # "r:" refuses compressed files, whose bytes have no fixed places
            for member in tar:
                # Links and folders have no bytes of their own. Hidden files are those of another program.
                if not member.isfile() or is_hidden(member.name):
                    continue
                folder, slash, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")  # the key ends at the first dot, but dots in folders belong to it
                sample = found.setdefault(folder + slash + key, {})
                if ending.lower() in IMAGE_ENDINGS:
                    sample["image"] = (member.offset_data, member.size)
                elif ending == "cls" and (content := tar.extractfile(member)):
                    sample["label"] = content.read(LONGEST_LABEL + 1)
    except Exception as error:  # tarfile raises anything, depending on the damage
        raise InputError(f"{_shown(shard)} is no WebDataset shard that can be read: {str(error)[:200]}") from error
    # After the whole shard: the files of a sample may come in any order.
    for key, sample in found.items():
        if set(sample) != {"image", "label"} or (label := _label(sample["label"])) is None:
            raise InputError(
                f"{_shown(shard)}: sample {quote(key)} needs a {' or '.join(IMAGE_ENDINGS)}, and a cls file with a number "
                f"from 0 to {MOST_CLASSES - 1:,}; links and folders do not count"
            )
        yield key, *sample["image"], label


def _shown(shard: Path) -> str:
    """Return the path of a shard as one line: a description of shards may hold any name."""
    path = str(shard)
    return path if path.isprintable() else quote(path, QUOTED_PATH)


def _label(content: bytes) -> int | None:
    """Return the class in a cls file, or None if there is no number of a class in it."""
    try:
        label = int(content)
    except ValueError:
        return None
    return label if len(content) <= LONGEST_LABEL and 0 <= label < MOST_CLASSES else None
