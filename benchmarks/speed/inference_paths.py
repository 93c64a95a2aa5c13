"""The paths whose speed `fbnetv3.benchmarks.speed.inference` compares: one function, many ways to run it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from fbnetv3.hub.convert import convert_to_timm
from fbnetv3.inference.export import FORMATS, export_model, frozen_copy
from fbnetv3.inference.optimize import BACKENDS, optimize_for_inference
from fbnetv3.inference.quantize import quantize
from fbnetv3.inference.runtimes import TOLERANCE, Run, relative_difference
from fbnetv3.model import build_model
from fbnetv3.training.loop import seeded

logger = logging.getLogger(__name__)

PEERS = ("timm_compiled", "timm_onnxruntime", "timm_openvino")
FP32 = ("eager", "fused", "inductor", "onnxruntime", "openvino", "auto", *(f"export_{name}" for name in FORMATS))
MATRIX = 1024  # side


def same_networks(name: str, side: int) -> tuple[nn.Module, nn.Module]:
    """Ours and timm's with the same weights, batch norms as after training (on noise), shown to be the same function."""
    ours = seeded(lambda: build_model(name), seed=0)
    images = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(0))
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            module.momentum = None  # the plain mean over what it sees
    with torch.no_grad():
        ours(images)
    theirs = timm.create_model(name.removesuffix("_same_padding"))
    theirs.load_state_dict(convert_to_timm(ours.state_dict(), name))
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        check_same(theirs(images), ours(images), "ours")
    return ours, theirs


def check_same(expected: Tensor, found: Tensor, path: str) -> None:
    """Raise unless the logits are the same within `TOLERANCE`."""
    if (share := relative_difference(found, expected)) > TOLERANCE:
        raise RuntimeError(f"{path}: logits differ from timm's by {share:.1e} of the largest")


def without_gradients(network: nn.Module) -> Run:
    """The network as it is, called as one does for inference."""

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)  # type: ignore[no-any-return]

    return run


def build_paths(
    names: Sequence[str], ours: nn.Module, theirs: nn.Module, example: Tensor, files: Path
) -> dict[str, Run]:
    """timm_eager and every path named; float32 ones have shown timm's logits. Exports go into the folder `files`."""
    peers = {f"timm_{'compiled' if name == 'inductor' else name}": name for name in BACKENDS}
    runs: dict[str, Run] = {"timm_eager": without_gradients(theirs)}
    for name in names:
        logger.info("threads %d, batch %d: building %s", torch.get_num_threads(), len(example), name)
        if name in PEERS:
            runs[name] = BACKENDS[peers[name]].build(frozen_copy(theirs, example), example)
        elif name == "eager":
            runs[name] = without_gradients(ours)
        elif name == "int8":
            runs[name] = quantize(ours, [torch.randn_like(example) for _ in range(8)])
        elif name.startswith("export_"):
            runs[name] = exported(ours, example, name.removeprefix("export_"), files)
        else:
            runs[name] = optimize_for_inference(ours, example, "eager" if name == "fused" else name)
        if name != "int8":
            check_same(runs["timm_eager"](example), runs[name](example), name)
    return runs


def exported(ours: nn.Module, example: Tensor, format: str, files: Path) -> Run:
    """The network through a file, which is written once, with torch's number of threads."""
    path = files / f"{format}{FORMATS[format].suffix}"
    if not path.exists():
        export_model(ours, example, path, format)
    if format == "executorch":
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(torch.get_num_threads())
    return FORMATS[format].load(path, example)


def matrix_products() -> dict[str, Callable[[], object]]:
    """Square float32 matrix products: torch's, and OpenVINO's, whose kernels may use wider instructions."""
    import openvino
    from openvino import opset13

    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    left = opset13.parameter([MATRIX, MATRIX], np.float32)
    product = openvino.Model([opset13.matmul(left, opset13.constant(b.numpy()), False, False)], [left])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(product, "CPU", settings).create_infer_request()
    share = {"share_inputs": True, "share_outputs": True}
    return {"matmul_torch": lambda: a @ b, "matmul_openvino": lambda: request.infer([a.numpy()], **share)}
