"""A network as a file for another runtime. The file is compared with the network before it appears.

`pip install "fbnetv3[export]"` installs the libraries. Each is imported when a format that needs it is requested.
"""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError, available
from fbnetv3.files import make_folder
from fbnetv3.inference.runtimes import (
    TOLERANCE,
    Run,
    executorch_file,
    onnxruntime_run,
    openvino_file,
    outputs,
    relative_difference,
    require,
    torch_export_file,
)

# ExecuTorch plans its memory in advance, so it needs a largest batch size.
EXECUTORCH_BATCH = 32


@dataclass(frozen=True)
class Format:
    """How a format is written and run.

    Attributes:
        suffix: of the file's name.
        needs: modules that must be installed.
        write: writes a model, given an example input, to a path.
        load: returns the function from images to logits that a file holds, given an example input.
    """

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path, Tensor], Run]


@dataclass(frozen=True)
class Exported:
    """The files of an exported network.

    Attributes:
        paths: the files; the first one is the one to open.
        difference: largest absolute difference between the file's logits and the network's.
        bytes: size of all files together.
    """

    paths: tuple[Path, ...]
    format: str
    difference: float
    bytes: int


def export_model(
    model: nn.Module, example: Tensor, path: str | Path, format: str, metadata: Mapping[str, str] | None = None
) -> Exported:
    """Write a copy of `model` in eval mode to `path`, after a check that the file gives the model's logits.

    A network with `features_only` gives a list of maps instead. They are compared in the same way.

    The file accepts any batch size (ExecuTorch up to `EXECUTORCH_BATCH`, or a little more than a larger example). OpenVINO
    puts the weights into a second file next to `path`, which ends in .bin. After a failure the old files are still there,
    or none. The file is written and compared on the CPU, wherever the model is.

    Args:
        example: float32 images [N, C, H, W], on any device. The file will accept images with these channels and of this size.
        format: a key of `FORMATS`.
        metadata: texts that an ONNX file keeps by their names. The other formats have no place for them.

    Raises:
        InputError: an unknown format; a library that is not installed; a path that does not end in the format's suffix or
            cannot be written; an example that the network does not accept; logits that differ by more than `TOLERANCE`.
    """
    path = check_target(path, format)[0]
    row, network, example = FORMATS[format], frozen_copy(model, example, "cpu"), example.cpu()
    with draft(path) as file:
        row.write(network, example, file)
        if metadata and format == "onnx":
            _add_metadata(file, metadata)
        # The check reads the file, not the object in memory, because the writing may be what goes wrong.
        difference = _check(row.load(file, example), network, example, format)
        paths = publish(file, path)
    return Exported(paths, format, difference, sum(file.stat().st_size for file in paths))


def check_target(path: str | Path, format: str) -> tuple[Path, ...]:
    """Return the files that `export_model` would write, `path` first.

    Raises:
        InputError: an unknown format, a library that is not installed, or a path that does not end in the format's suffix.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; {available(format, FORMATS)}")
    row, path = FORMATS[format], Path(path)
    require(row.needs, f"format {format!r}")
    # OpenVINO insists on its suffix and names its second file after the first.
    if path.suffix != row.suffix or path.is_dir():
        raise InputError(f"cannot write {path}; a file of format {format!r} ends in {row.suffix}")
    return (path, path.with_suffix(".bin")) if format == "openvino" else (path,)


def frozen_copy(model: nn.Module, example: Tensor, device: str | torch.device | None = None) -> nn.Module:
    """Return a copy of a model in eval mode and without gradients, after a check that it accepts the example.

    Args:
        device: of the copy; by default that of the example.

    Raises:
        InputError: the example is not float32 [N, C, H, W] on the CPU or a GPU (there also float16 or bfloat16), or the network
            does not accept it.
    """
    device = torch.device(device or example.device)
    given = f"{str(example.dtype).removeprefix('torch.')} {list(example.shape)} on {example.device}"
    dtypes = (torch.float32,) if device.type == "cpu" else (torch.float32, torch.float16, torch.bfloat16)
    somewhere = {example.device.type, device.type} <= {"cpu", "cuda"}
    if example.dim() != 4 or example.dtype not in dtypes or not somewhere or not len(example):
        raise InputError(
            f"example is {given}; allowed: float32 images [N, C, H, W] on cpu or cuda (to run on cuda also float16, bfloat16)"
        )
    try:
        # Without gradients, so that no call builds a graph for them.
        network = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        network(example.to(device))
    except RuntimeError as error:
        raise InputError(
            f"example is {given}, which the network does not accept: {str(error).splitlines()[0]}"
        ) from error
    return network


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """Return the network as the content of one ONNX file for any batch size.

    The input is `images`. The output is `logits`, or `map_0`, `map_1`, ... of a network with `features_only`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter itself calls deprecated functions
        program = torch.onnx.export(
            model,
            (_several(example),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=_output_names(model, example),
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _output_names(model: nn.Module, example: Tensor) -> list[str]:
    with torch.no_grad():
        found = model(example)
    return ["logits"] if isinstance(found, Tensor) else [f"map_{i}" for i in range(len(found))]


def openvino_model(model: nn.Module, example: Tensor) -> Any:
    """Return the network as an `openvino.Model` for any batch size."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces the network, which is deprecated in torch
        converted = openvino.convert_model(model, example_input=_several(example))
    converted.reshape([-1, *example.shape[1:]])  # any batch size, but the example's channels and size
    return converted


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield the path of a draft in a temporary folder next to `path`. The folder is deleted at the end.

    `publish` moves a draft to its place. A folder is used because some formats write several files.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=make_folder(path.parent), prefix=f".{path.name}.") as folder:
        try:
            yield Path(folder, path.name)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; give another path") from error


def publish(file: Path, path: Path) -> tuple[Path, ...]:
    """Move a draft and all files next to it to `path` and next to it. Return the new paths, `path` first.

    `path` itself is moved last: a reader that sees it finds the other files too.
    """
    moved = []
    for part in sorted(file.parent.iterdir(), key=lambda part: part == file):
        with part.open("rb") as handle:
            os.fsync(handle.fileno())  # the content must be on the disk before the name is
        part.chmod(0o644)
        moved.append(part.replace(path.parent / part.name))
    return tuple(reversed(moved))


def _several(example: Tensor) -> Tensor:
    """Return a batch of at least two images, because exporters treat a dimension of size one as a constant."""
    return example if len(example) > 1 else torch.cat([example, example])


def _torch_program(model: nn.Module, example: Tensor, most: int | None = None) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=most)
    return torch.export.export(model, (_several(example),), dynamic_shapes=({0: batch},))


def _write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    path.write_bytes(onnx_bytes(model, example))


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    content = onnx.load_model(path)
    onnx.helper.set_model_props(content, dict(metadata))
    path.write_bytes(content.SerializeToString())


def _write_torch(model: nn.Module, example: Tensor, path: Path) -> None:
    torch.export.save(_torch_program(model, example), path)


def _write_openvino(model: nn.Module, example: Tensor, path: Path) -> None:
    import openvino

    # Half-precision weights are OpenVINO's default, and they would change the logits.
    openvino.save_model(openvino_model(model, example), path, compress_to_fp16=False)


def _write_executorch(model: nn.Module, example: Tensor, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ExecuTorch calls deprecated functions of torch
        # A largest batch above the example's: torch.export refuses a range of one size.
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
    """Return the largest absolute difference between the file's logits and the network's.

    The example and a batch of another size are compared, because a file may be right for one batch size only.
    """
    largest = 0.0
    for images in (example.contiguous(), torch.cat([example, example[:1].flip(3)])):
        with torch.no_grad():
            found, expected = outputs(run(images)), outputs(network(images))
        if (difference := relative_difference(found, expected)) > TOLERANCE:
            raise InputError(
                f"format {format!r}: logits of {len(images)} images differ from the network's by {difference:.1e} of the "
                f"largest logit; allowed: {TOLERANCE:.0e}; nothing was written, try another format"
            )
        largest = max(largest, *(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)))
    return largest
