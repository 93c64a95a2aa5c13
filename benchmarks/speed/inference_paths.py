"""The ways to run one network whose speed `inference.py` compares: this package's, timm's, exports and int8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from fbnetv3.hub.convert import convert_to_timm
from fbnetv3.inference.export import FORMATS, export_model, frozen_copy
from fbnetv3.inference.optimize import BACKENDS, optimize_for_inference
from fbnetv3.inference.quantization import quantize
from fbnetv3.inference.runtimes import TOLERANCE, Run, relative_difference
from fbnetv3.model import build_model
from fbnetv3.training.engine import seeded

PEERS = ("timm_compiled", "timm_onnxruntime", "timm_openvino")
FP32 = ("eager", "fused", "inductor", "onnxruntime", "openvino", "auto", *(f"export_{name}" for name in FORMATS))
MATRIX = 1024  # side of the matrices whose product shows the peak of the processor


def same_networks(name: str, side: int) -> tuple[nn.Module, nn.Module]:
    """Return the network of this package and timm's, in eval mode, with the same weights.

    Batch-norm statistics are those of random images, so that activations have the size that they have after a training.

    Raises:
        RuntimeError: the two compute different logits.
    """
    ours = seeded(lambda: build_model(name), seed=0)
    images = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(0))
    adapt(ours, images)
    theirs = timm_twin(ours, name)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        check_same(theirs(images), ours(images), "ours")
    return ours, theirs


def adapt(network: nn.Module, images: Tensor, residual: float = 1.0) -> None:
    """Give batch norms the statistics of images, so that activations have the size that they have after a training.

    Args:
        residual: weight of the batch norms that end residual blocks and have weight 0 at first. With 0 the blocks would compute
            nothing. With 1 the rounding errors of a deep network grow with every block, as they do in no trained network.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.0 if module.weight.any() else residual)
            module.momentum = None  # the running statistics are the plain mean over all batches
    with torch.no_grad():
        network.train()(images)


def timm_twin(ours: nn.Module, name: str) -> nn.Module:
    """Return timm's network with the weights of `ours`, the network `name` of this package."""
    # timm's networks pad by half the kernel, as the variants `_same_padding` of this package do.
    theirs: nn.Module = timm.create_model(name.removesuffix("_same_padding"))
    theirs.load_state_dict(convert_to_timm(ours.state_dict(), name))
    return theirs


def check_same(expected: Tensor, found: Tensor, path: str) -> None:
    """Raise RuntimeError unless the logits are equal within `TOLERANCE`."""
    if (share := relative_difference(found, expected)) > TOLERANCE:
        raise RuntimeError(f"{path}: logits differ from timm's by {share:.1e} of the largest")


def without_gradients(network: nn.Module) -> Run:
    """Return the network as a function that is called as one does for inference."""

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(images)
            return logits

    return run


def build_paths(
    names: Sequence[str], ours: nn.Module, theirs: nn.Module, example: Tensor, files: Path
) -> dict[str, Run]:
    """Return `timm_eager` and every path in `names`, ready to run with torch's present number of threads.

    Args:
        names: paths of `PEERS` and `FP32`, and `int8`.
        ours: the network of this package.
        theirs: timm's network.
        example: images of the size that will be timed.
        files: folder for exports, which are written only once.

    Raises:
        RuntimeError: the logits of a float32 path differ from timm's.
    """
    peers = {f"timm_{'compiled' if name == 'inductor' else name}": name for name in BACKENDS}
    runs: dict[str, Run] = {"timm_eager": without_gradients(theirs)}
    for name in names:
        if name in PEERS:
            runs[name] = BACKENDS[peers[name]].build(frozen_copy(theirs, example), example)
        elif name == "eager":
            runs[name] = without_gradients(ours)
        elif name == "int8":
            # Images of noise are enough to time int8. Its accuracy is measured elsewhere, on real images.
            runs[name] = quantize(ours, [torch.randn_like(example) for _ in range(8)])
        elif name.startswith("export_"):
            runs[name] = exported(ours, example, name.removeprefix("export_"), files)
        else:
            runs[name] = optimize_for_inference(ours, example, "eager" if name == "fused" else name)
        if name != "int8":  # int8 rounds: its logits are others by design
            check_same(runs["timm_eager"](example), runs[name](example), name)
    return runs


def exported(ours: nn.Module, example: Tensor, format: str, files: Path) -> Run:
    """Return the network as it runs from an exported file, with torch's number of threads."""
    path = files / f"{format}{FORMATS[format].suffix}"
    if not path.exists():
        export_model(ours, example, path, format)
    if format == "executorch":
        from executorch.extension.pybindings import portable_lib

        # ExecuTorch takes its number of threads from the machine, not from torch.
        portable_lib._unsafe_reset_threadpool(torch.get_num_threads())
    return FORMATS[format].load(path, example)


def matrix_products() -> dict[str, Callable[[], object]]:
    """Return float32 products of two square matrices: torch's, and OpenVINO's, whose kernels may use wider instructions."""
    import openvino
    from openvino import opset13

    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    left = opset13.parameter([MATRIX, MATRIX], np.float32)
    product = openvino.Model([opset13.matmul(left, opset13.constant(b.numpy()), False, False)], [left])
    # The same settings as for the networks: float32, and as many threads as torch has.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(product, "CPU", settings).create_infer_request()
    share = {"share_inputs": True, "share_outputs": True}
    return {"matmul_torch": lambda: a @ b, "matmul_openvino": lambda: request.infer([a.numpy()], **share)}
