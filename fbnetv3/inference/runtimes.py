"""Exported networks as functions from float32 images [N, C, H, W], with any N, to logits or a list of feature maps.

All compute in float32 on the CPU, with torch's number of threads: ONNX Runtime and OpenVINO also have packages for GPUs, but
those are not used, even where they are installed. `pip install "fbnetv3[export]"` installs the runtimes. Each is imported
when it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbnetv3.errors import InputError

# Largest allowed difference, as a share of the largest logit. Deep float32 networks that add in another order differ by about
# 1e-4 of it if their weights are badly conditioned.
TOLERANCE = 1e-3

Output = Tensor | list[Tensor]  # logits, or the maps of a network with `features_only`
Run = Callable[[Tensor], Any]  # returns `Output`


def require(modules: tuple[str, ...], what: str) -> None:
    """Check that all modules are installed.

    Args:
        what: what needs them, for the message.

    Raises:
        InputError: a module is missing. The message names the pip command.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        raise InputError(f'{what} needs {", ".join(missing)}; run: pip install "fbnetv3[export]"')


def outputs(output: Output) -> list[Tensor]:
    """Return the outputs of a network as a list."""
    return [output] if isinstance(output, Tensor) else list(output)


def relative_difference(found: Output, expected: Output) -> float:
    """Return the largest absolute difference as a share of the largest expected magnitude, of the worst of several outputs.

    It is infinite if the shapes differ or a value is not finite.
    """
    if not (isinstance(found, Tensor) and isinstance(expected, Tensor)):
        pairs = list(zip(outputs(found), outputs(expected), strict=False))
        complete = len(outputs(found)) == len(outputs(expected))
        return max(relative_difference(*pair) for pair in pairs) if complete else float("inf")
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return float("inf")
    difference = float((found - expected).abs().max())
    return difference / float(expected.abs().max()) if difference else 0.0


def onnxruntime_run(content: bytes) -> Run:
    """Return a function that runs the content of an ONNX file with one input in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Networks are chains, so several operators at a time bring nothing and compete for the threads.
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Output:
        found = session.run(None, {name: images.detach().contiguous().numpy()})
        return _one_or_all([torch.from_numpy(array) for array in found])

    return run


class OpenVINORun:
    """A function that runs an `openvino.Model`.

    The model is compiled for the example's shape, which is the fastest, and once more for any shape when another one comes.
    """

    def __init__(self, model: Any, example: Tensor) -> None:
        self.model = model
        self.shape = tuple(example.shape)
        self.threads = torch.get_num_threads()
        self.lock = threading.Lock()  # a request can run only one call at a time
        fixed = model.clone()  # reshaping works in place, and the free shape is needed later
        fixed.reshape(list(self.shape))
        self.fixed = self._request(fixed)
        self.free: Any = None

    def _request(self, model: Any) -> Any:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # without it, OpenVINO rounds to bfloat16 on processors that have it
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
        }
        return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, images: Tensor) -> Output:
        """Map images to logits or feature maps."""
        import openvino

        # Shared memory saves a copy of the input; `detach` and `contiguous` are what it requires.
        data = openvino.Tensor(images.detach().contiguous().numpy(), shared_memory=True)
        with self.lock:
            if tuple(images.shape) != self.shape and self.free is None:
                self.free = self._request(self.model)
            request = self.fixed if tuple(images.shape) == self.shape else self.free
            # The output is OpenVINO's memory, which the next call overwrites: the copy must happen under the lock.
            found = request.infer([data], share_inputs=True, share_outputs=True)
            return _one_or_all([torch.from_numpy(found[i].copy()) for i in range(len(found))])


def openvino_file(path: Path, example: Tensor) -> OpenVINORun:
    """Return a function that runs an .xml file in OpenVINO."""
    import openvino

    return OpenVINORun(openvino.Core().read_model(path), example)


def torch_export_file(path: Path) -> Run:
    """Return a function that runs a .pt2 file in torch."""
    return torch.export.load(path).module()


def executorch_file(path: Path) -> Run:
    """Return a function that runs a .pte file in ExecuTorch, which uses all processors."""
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    method = program.load_method("forward")

    # The method reads the program's memory, so the function keeps the program alive as a default argument.
    def run(images: Tensor, program: Any = program) -> Output:
        return _one_or_all([output.clone() for output in method.execute([images.detach().contiguous()])])

    return run


def _one_or_all(found: list[Tensor]) -> Output:
    """Return the only output, or the list of several: what the network itself returns."""
    return found[0] if len(found) == 1 else found
