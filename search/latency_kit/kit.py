"""The kit that is measured on another device: an ONNX file of every part, a few whole networks, and a script.

fbnetv3 search latency-kit micro --out KIT
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.inference.fusion import fold_batch_norms
from fbnetv3.inference.runtimes import require
from fbnetv3.model import build_model
from fbnetv3.progress import Report
from fbnetv3.schema import dump_json, load_json
from fbnetv3.search.latency_kit import measure
from fbnetv3.search.space.latency import Part, distinct_parts, from_row, parts_of_row, to_row
from fbnetv3.search.space.measure_latency import build_part
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.search.space.space import IntMatrix
from fbnetv3.training.engine import seeded

SCHEMA = 1
LEAST_NETWORKS = 2  # the error of the calibration of one is that of the factor of the others
KIT, SCRIPT = "kit.json", "measure.py"


@dataclass(frozen=True)
class Kit:
    """What the files of a kit are.

    Attributes:
        space: name of the space.
        batch: images of an input.
        parts: the part that every file has.
        networks: of every file of a whole network, the files of its parts and how often it has them.
    """

    space: str
    batch: int
    parts: dict[str, Part]
    networks: dict[str, dict[str, int]]

    @property
    def id(self) -> str:
        """A fingerprint, by which times of another kit are recognised."""
        return hashlib.sha256(dump_json(self._content()).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {"schema": SCHEMA, "id": self.id, **self._content()}

    def _content(self) -> dict[str, Any]:
        parts = {file: to_row(part) for file, part in self.parts.items()}
        return {"space": self.space, "batch": self.batch, "parts": parts, "networks": self.networks}


def write_kit(
    space: NetworkSpace, rows: IntMatrix, whole: IntMatrix, batch: int, folder: str | Path, progress: Report
) -> Kit:
    """Write a kit into a folder. A kit that is not complete yet is continued.

    Args:
        rows: index rows whose parts are measured.
        whole: index rows of the whole networks, whose parts are measured too.
        batch: number of images of an input.

    Raises:
        InputError: the folder has another kit or cannot be written, or ONNX is not installed.
    """
    require(("onnx",), "a latency kit")
    folder = make_folder(folder)
    kit = make_kit(space, rows, whole, batch)
    if (folder / KIT).exists() and load_kit(folder) != kit:
        raise InputError(f"{folder} has another kit; give another folder")
    write_atomically(folder / KIT, dump_json(kit.to_dict()) + "\n")
    shutil.copyfile(measure.__file__, folder / SCRIPT)
    builds: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {}
    for file, row in zip(kit.networks, whole.tolist(), strict=True):
        builds[file] = functools.partial(_build_network, space, row, batch)
    builds |= {file: functools.partial(build_part, part, batch) for file, part in kit.parts.items()}
    for done, (file, build) in enumerate(builds.items()):
        progress(done, len(builds), f"exporting the blocks of space {space.name}")
        if not (folder / file).exists():
            write_atomically(folder / file, static_onnx(*build()))
    progress(len(builds), len(builds), f"exported the blocks of space {space.name}")
    return kit


def make_kit(space: NetworkSpace, rows: IntMatrix, whole: IntMatrix, batch: int) -> Kit:
    """Return what the files of a kit are to be."""
    found = sorted({*distinct_parts(space, rows), *distinct_parts(space, whole)})
    names = {part: f"parts/{i:05d}.onnx" for i, part in enumerate(found)}
    networks = {}
    for i, row in enumerate(whole):
        counts = Counter[str]()
        for part, n in parts_of_row(space, row):
            if n:
                counts[names[part]] += n
        networks[f"networks/{i:02d}.onnx"] = dict(counts)
    return Kit(space.name, batch, {name: part for part, name in names.items()}, networks)


def load_kit(folder: str | Path) -> Kit:
    """Read the description of a kit.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / KIT
    data = load_json(path, "latency kit", ("schema", "id", "space", "batch", "parts", "networks"))
    try:
        parts = {str(file): from_row(row) for file, row in data["parts"].items()}
        networks = {str(file): _counts(counts, parts) for file, counts in data["networks"].items()}
        kit = Kit(str(data["space"]), int(data["batch"]), parts, networks)
        if data["schema"] == SCHEMA and data["id"] == kit.id and len(networks) >= LEAST_NETWORKS:
            return kit
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError):
        pass
    raise InputError(f"{path} is no latency kit, or is damaged; make one with `fbnetv3 search latency-kit`")


def _counts(counts: Mapping[str, Any], parts: Mapping[str, Part]) -> dict[str, int]:
    found = {str(file): int(n) for file, n in counts.items()}
    if not found or not found.keys() <= parts.keys() or min(found.values()) < 1:
        raise ValueError("a network of unknown parts, or of none")
    return found


def static_onnx(module: nn.Module, example: Tensor) -> bytes:
    """Return a module, batch norms folded, as the content of an ONNX file for inputs of the example's shape.

    Many devices run nothing but fixed shapes. The older exporter of torch makes such files, and takes well under a second for a
    part where the newer one of `fbnetv3 export` takes many: a space has hundreds or thousands of parts.
    """
    network = module.eval().requires_grad_(False)
    fold_batch_norms(network)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        path = Path(folder, "part.onnx")
        torch.onnx.export(network, (example,), path, dynamo=False, input_names=["images"], output_names=["logits"])
        return path.read_bytes()


def _build_network(space: NetworkSpace, row: Sequence[int], batch: int) -> tuple[nn.Module, Tensor]:
    arch = space.arch(row, "network")
    network = seeded(functools.partial(build_model, arch, space.num_classes, space.in_chans), 0)
    return network, torch.zeros(batch, space.in_chans, arch.resolution, arch.resolution)
