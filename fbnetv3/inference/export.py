"""A network as a file of another runtime, checked against the network itself before the file appears.

The libraries are those of `pip install "fbnetv3[export]"`; each is imported when a format that needs it is asked for.
"""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.files import make_folder
from fbnetv3.inference.runtimes import (
    TOLERANCE,
    Run,
    executorch_file,
    onnxruntime_run,
    openvino_file,
    relative_difference,
    require,
    torch_export_file,
)

# ExecuTorch plans memory ahead, so that its batch dimension has an end.
EXECUTORCH_BATCH = 32


@dataclass(frozen=True)
class Format:
    """How a format is written and run: `write(model, example, path)`, `load(path, example)` gives a function of images."""

    suffix: str
    needs: tuple[str, ...]  # modules that must be importable
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path, Tensor], Run]


@dataclass(frozen=True)
class Exported:
    """Files written (the one to open first), and the largest difference of their logits from the network's."""

    paths: tuple[Path, ...]
    format: str
    difference: float  # absolute
    bytes: int


def export_model(model: nn.Module, example: Tensor, path: str | Path, format: str) -> Exported:
    """Write `model` in eval mode as `path`, once it has shown the logits of the network; `model` itself is left alone.

    The batch dimension is free (in ExecuTorch up to `EXECUTORCH_BATCH`, or more for a larger example). OpenVINO's
    weights go into a second file beside `path`, ending in .bin. A failure leaves the old files, or none.

    Args:
        example: float32 images [N, C, H, W]; channels and size are those that the file will take.
        format: a key of `FORMATS`.

    Raises:
        InputError: unknown format, a library that is not installed, a path that does not end in the format's suffix or
            cannot be written, an example that the network does not take, or logits off by more than `TOLERANCE`.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; available: {', '.join(FORMATS)}")
    row, path = FORMATS[format], Path(path)
    require(row.needs, f"format {format!r}")
    if path.suffix != row.suffix or path.is_dir():
        raise InputError(f"cannot write {path}; a file of format {format!r} ends in {row.suffix}")
    network = frozen_copy(model, example)
    with draft(path) as file:
        row.write(network, example, file)
        difference = _check(row.load(file, example), network, example, format)
        paths = publish(file, path)
    return Exported(paths, format, difference, sum(file.stat().st_size for file in paths))


def frozen_copy(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy in eval mode without gradients, which has shown that it takes the example.

    Raises:
        InputError: the example is not float32 [N, C, H, W] on the CPU, or the network refuses it.
    """
    given = f"{str(example.dtype).removeprefix('torch.')} {list(example.shape)} on {example.device}"
    if example.dim() != 4 or example.dtype != torch.float32 or example.device.type != "cpu" or not len(example):
        raise InputError(f"example is {given}; allowed: float32 images [N, C, H, W] on cpu")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    try:
        network(example)
    except RuntimeError as error:
        raise InputError(
            f"example is {given}, which the network does not take: {str(error).splitlines()[0]}"
        ) from error
    return network


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The network as one ONNX file with a free batch dimension, input `images`, output `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own use of deprecated functions
        program = torch.onnx.export(
            model,
            (_several(example),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def openvino_model(model: nn.Module, example: Tensor) -> Any:
    """The network as an `openvino.Model` with a free batch dimension."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated in torch
        converted = openvino.convert_model(model, example_input=_several(example))
    converted.reshape([-1, *example.shape[1:]])
    return converted


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A file name, in a folder of its own beside `path`, to write to; what is there at the end is deleted.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=make_folder(path.parent), prefix=f".{path.name}.") as folder:
        try:
            yield Path(folder, path.name)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; give another path") from error


def publish(file: Path, path: Path) -> tuple[Path, ...]:
    """Move a draft with all files beside it to `path` and beside; `path` last, when what it needs is there, but named first."""
    moved = []
    for part in sorted(file.parent.iterdir(), key=lambda part: part == file):
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.chmod(0o644)
        moved.append(part.replace(path.parent / part.name))
    return tuple(reversed(moved))


def _several(example: Tensor) -> Tensor:
    """A batch of two or more: exporters take a dimension of one for a constant."""
    return example if len(example) > 1 else torch.cat([example, example])


def _torch_program(model: nn.Module, example: Tensor, most: int | None = None) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=most)
    return torch.export.export(model, (_several(example),), dynamic_shapes=({0: batch},))


def _write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    path.write_bytes(onnx_bytes(model, example))


def _write_torch(model: nn.Module, example: Tensor, path: Path) -> None:
    torch.export.save(_torch_program(model, example), path)


def _write_openvino(model: nn.Module, example: Tensor, path: Path) -> None:
    import openvino

    openvino.save_model(openvino_model(model, example), path, compress_to_fp16=False)


def _write_executorch(model: nn.Module, example: Tensor, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = _torch_program(model, example, max(EXECUTORCH_BATCH, len(example) + 1))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


FORMATS = {
    "onnx": Format(
        ".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, lambda path, _: onnxruntime_run(path.read_bytes())
    ),
    "torch-export": Format(".pt2", (), _write_torch, lambda path, _: torch_export_file(path)),
    "openvino": Format(".xml", ("openvino",), _write_openvino, openvino_file),
    "executorch": Format(".pte", ("executorch",), _write_executorch, lambda path, _: executorch_file(path)),
}


def _check(run: Run, network: nn.Module, example: Tensor, format: str) -> float:
    """The largest absolute difference of the logits, on the example and on a batch of another size."""
    largest = 0.0
    for images in (example.contiguous(), torch.cat([example, example[:1].flip(3)])):
        with torch.no_grad():
            found, expected = run(images), network(images)
        if (share := relative_difference(found, expected)) > TOLERANCE:
            raise InputError(
                f"format {format!r}: logits of {len(images)} images differ from the network's by {share:.1e} of the "
                f"largest; allowed: {TOLERANCE:.0e}; nothing was written, try another format"
            )
        largest = max(largest, float((found - expected).abs().max()))
    return largest
