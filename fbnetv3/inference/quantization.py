"""Post-training quantization to int8 for CPUs. NNCF chooses the ranges on calibration images, and OpenVINO runs the result.

int8 = quantize(model, batches)  # batches of float32 images, prepared as for inference; some hundred images are enough
save_quantized(int8, "d_int8.xml")
int8 = load_quantized("d_int8.xml", example)
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.inference.export import draft, frozen_copy, openvino_model, publish
from fbnetv3.inference.optimize import OptimizedModel
from fbnetv3.inference.runtimes import OpenVINORun, openvino_file, require

BACKEND = "openvino int8"
# These stay in float32. OpenVINO runs depthwise convolutions in float32 anyway, and a conversion between the two types takes
# more time than the small operators next to it save. The 1x1 convolutions, with nearly all multiply-adds, become int8.
FLOAT_OPERATORS = ("GroupConvolution", "Multiply", "ReduceMean", "AdaptiveAvgPool", "Add")
FLOAT_MODULES = r".*\.se[./].*"  # squeeze-and-excitation


def quantize(model: nn.Module, calibration: Iterable[Tensor]) -> OptimizedModel:
    """Return an int8 copy of `model` for inference on the CPU. `model` itself is not changed.

    Args:
        calibration: float32 batches [N, C, H, W], prepared as for inference, on any device. Every image is used. The shape of
            the first batch is the one that runs fastest.

    Raises:
        InputError: there are no images, the network does not accept them, or a library is not installed.
    """
    require(("openvino", "nncf"), "int8")
    batches = iter(calibration)
    example = next(batches, None)  # the first batch of what may be a generator, used again below
    if example is None:
        raise InputError("calibration has no images; give an iterable of float32 batches [N, C, H, W]")
    network, batches = frozen_copy(model, example, "cpu"), itertools.chain([example], batches)
    example = example.cpu()
    images = list(_single_images(batches, example))
    return _optimized(OpenVINORun(_quantized(openvino_model(network, example), images), example), example)


def save_quantized(quantized: OptimizedModel, path: str | Path) -> tuple[Path, ...]:
    """Write a network that `quantize` returned to `path` (.xml), and its weights next to it (.bin). Return both paths.

    Raises:
        InputError: another kind of model, or a path that does not end in .xml or cannot be written.
    """
    path = Path(path)
    if not isinstance(quantized.run, OpenVINORun) or quantized.backend != BACKEND:
        raise InputError(f"{quantized} is not an int8 network; give what fbnetv3.quantize returns")
    if path.suffix != ".xml" or path.is_dir():
        raise InputError(f"cannot write {path}; the file of an int8 network ends in .xml")
    import openvino

    with draft(path) as file:
        # The rest of the network stays float32, as it was measured.
        openvino.save_model(quantized.run.model, file, compress_to_fp16=False)
        return publish(file, path)


def load_quantized(path: str | Path, example: Tensor) -> OptimizedModel:
    """Read a network that `save_quantized` wrote.

    Args:
        example: float32 images [N, C, H, W] of the shape that should run fastest.

    Raises:
        InputError: the file is missing or damaged, the example has another size, or OpenVINO is not installed.
    """
    require(("openvino",), "int8")
    try:
        return _optimized(openvino_file(Path(path), example), example)
    except RuntimeError as error:
        reason = (
            str(error).strip().splitlines()[-1]
        )  # OpenVINO's messages start with the source lines that they come from
        raise InputError(
            f"cannot run {path} on {list(example.shape)}: {reason}; give a file that save_quantized wrote"
        ) from error


def _single_images(batches: Iterable[Tensor], example: Tensor) -> Iterator[Tensor]:
    for batch in batches:
        if batch.shape[1:] != example.shape[1:] or batch.dtype != example.dtype:
            raise InputError(
                f"calibration: a batch is {batch.dtype} {list(batch.shape)}, the first {example.dtype} "
                f"{list(example.shape)}; allowed: float32 [N, C, H, W] of one size"
            )
        yield from batch.detach().cpu().split(1)  # NNCF counts batches, so one image each makes it use all of them


def _quantized(model: Any, images: list[Tensor]) -> Any:
    """Return the `openvino.Model` with 8-bit weights and activations, with ranges from the images."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    ignored = nncf.IgnoredScope(types=list(FLOAT_OPERATORS), patterns=[FLOAT_MODULES], validate=False)
    dataset = nncf.Dataset(images, lambda image: image.contiguous().numpy())
    # Symmetric weights and asymmetric activations: hard-swish is negative only in a short range.
    preset = nncf.QuantizationPreset.MIXED
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF prints progress bars
        return nncf.quantize(model, dataset, preset=preset, subset_size=len(images), ignored_scope=ignored)


def _optimized(run: OpenVINORun, example: Tensor) -> OptimizedModel:
    return OptimizedModel(BACKEND, run, tuple(example.shape[1:]), run.threads)
