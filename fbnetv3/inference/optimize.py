"""The fastest way to run a network on this CPU or GPU with the same logits, in another runtime or in torch alone."""

from __future__ import annotations

import functools
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.device import clock_of
from fbnetv3.errors import InputError, available
from fbnetv3.inference.cuda_graph import GraphRun
from fbnetv3.inference.export import frozen_copy, onnx_bytes, openvino_model
from fbnetv3.inference.fusion import fold_batch_norms, fuse_network
from fbnetv3.inference.runtimes import TOLERANCE, OpenVINORun, Run, onnxruntime_run, relative_difference, require

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
# Largest allowed difference on a GPU, as a share of the largest logit. Convolutions of float32 use TF32 there, whose numbers
# have as many bits as those of float16.
GPU_TOLERANCES = {torch.float32: 1e-2, torch.float16: 1e-2, torch.bfloat16: 1e-1}
ROUNDS = 7  # number of timed calls of each backend, by whose median `auto` chooses


@dataclass(frozen=True)
class Backend:
    """A way to run a network.

    Attributes:
        needs: modules that must be installed.
        build: returns a function from images to logits for a frozen copy of a network and an example. It may change the copy.
        devices: types of the devices that it runs on.
    """

    needs: tuple[str, ...]
    build: Callable[[nn.Module, Tensor], Run]
    devices: tuple[str, ...] = ("cpu",)


@dataclass(frozen=True, eq=False, repr=False)
class OptimizedModel:
    """A network for inference. Call it with images [N, C, H, W] like the example, on its device; N may be any number.

    Attributes:
        image: shape (C, H, W) of an image.
        threads: number of threads; torch had this number when the model was made.
        seconds: if `auto` chose the backend, the median time of a call for every backend that was tried.
        device: where the images must be.
        dtype: of the images.
    """

    backend: str
    run: Run
    image: tuple[int, ...]
    threads: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    def __call__(self, images: Tensor) -> Any:
        """Return logits [N, num_classes], or the list of maps of a network with `features_only`.

        Raises:
            InputError: the images have another size or type than the example, or are on another device.
        """
        if (tuple(images.shape[1:]), images.dtype, images.device) != (self.image, self.dtype, self.device):
            given = f"{_name(images.dtype)} {list(images.shape)} on {images.device}"
            size = ", ".join(map(str, self.image))
            raise InputError(f"images are {given}; optimized for {_name(self.dtype)} [N, {size}] on {self.device}")
        return self.run(images)

    def __repr__(self) -> str:
        tried = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in self.seconds.items())
        how = f"; fastest of: {tried}" if tried else ""
        where = f"threads={self.threads}" if self.device == CPU else f"{_name(self.dtype)}, {self.device}"
        return f"OptimizedModel({self.backend}, {where}, image={list(self.image)}{how})"


def optimize_for_inference(model: nn.Module, example: Tensor, backend: str = "auto") -> OptimizedModel:
    """Return a copy of `model` in eval mode that gives the same logits faster on this machine.

    `model` itself is not changed. The copy is on the example's device.

    Args:
        example: float32 images [N, C, H, W] on the CPU or a GPU. For a network that was moved to float16 or bfloat16 they have
            its type (on a GPU only). Other batch sizes work too, but this one is the fastest.
        backend: a key of `BACKENDS`, or `auto`, which builds all that are installed and takes the one that is fastest on the
            example. That takes between one and some ten seconds. It leaves out `inductor`, which compiles for minutes.
            `eager` needs torch alone.

    Raises:
        InputError: an unknown backend or one for another device, a library that is not installed, an example that the network
            does not accept, or logits that differ by more than a share of the largest logit: on the CPU
            `fbnetv3.inference.runtimes.TOLERANCE`, on a GPU the share in `GPU_TOLERANCES`.
    """
    here = [name for name, row in BACKENDS.items() if example.device.type in row.devices]
    if backend not in ("auto", *BACKENDS):
        raise InputError(f"unknown backend {backend!r}; {available(backend, ('auto', *(here or BACKENDS)))}")
    if backend != "auto" and here and backend not in here:
        raise InputError(
            f"backend {backend!r} does not run on {example.device}, where the example is; give auto, {', '.join(here)}, or an "
            f"example on {' or '.join(BACKENDS[backend].devices)}"
        )
    network = frozen_copy(model, example)  # also the reference that the backends are compared with
    if backend != "auto":
        return _optimized(backend, _build(backend, network, example), example)
    runs = {}
    for name in here:
        if name == "inductor":
            continue
        try:
            runs[name] = _build(name, network, example)
        except Exception as error:  # a broken installation of one runtime must not prevent the use of the others
            logger.info("backend %s is left out: %s", name, error)
    if not runs:
        raise InputError("no backend gives the logits of this network here; run the network without optimisation")
    # The median, because a single call may be disturbed by anything else on the machine.
    calls = {name: functools.partial(run, example) for name, run in runs.items()}
    times = time_calls(calls, clock=clock_of(example.device))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    best = min(seconds, key=seconds.__getitem__)
    return _optimized(best, runs[best], example, seconds)


def time_calls(
    runs: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of every call.

    Every round calls each function once, so that other work on the machine slows all of them alike. A call that is not timed
    precedes each timed one: the caches are full of the previous function's data at first. Of calls on a GPU the `clock` must
    wait for their results (`fbnetv3.device.clock_of`), or the times would be those of the requests.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def _build(backend: str, network: nn.Module, example: Tensor) -> Run:
    """Build a backend and check its logits on the example."""
    row = BACKENDS[backend]
    require(row.needs, f"backend {backend!r}")
    run = row.build(frozen_copy(network, example), example)  # a new copy, because fusing changes it
    with torch.no_grad():
        difference = relative_difference(run(example), network(example))
    tolerance = TOLERANCE if example.device == CPU else GPU_TOLERANCES[example.dtype]
    if difference > tolerance:
        raise InputError(
            f"backend {backend!r}: logits differ from the network's by {difference:.1e} of the largest logit; allowed: "
            f"{tolerance:.0e}; use another backend"
        )
    return run


def _optimized(name: str, run: Run, example: Tensor, seconds: Mapping[str, float] | None = None) -> OptimizedModel:
    image, threads = tuple(example.shape[1:]), torch.get_num_threads()
    return OptimizedModel(name, run, image, threads, seconds or {}, example.device, example.dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _eager(network: nn.Module, example: Tensor) -> Run:
    network = fuse_network(network, example)

    # Inputs get the layout of the weights here, once, instead of in every layer.
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(images.contiguous(memory_format=torch.channels_last))
            return logits

    return run


def _inductor(network: nn.Module, example: Tensor) -> Run:
    from torch._inductor import config as inductor

    fold_batch_norms(network)
    compiled = torch.compile(network)

    def run(images: Tensor) -> Tensor:
        # The setting must hold during the call: a new batch size compiles again, and torch.compile's option has no effect.
        with torch.no_grad(), inductor.patch(freezing=True):
            logits: Tensor = compiled(images)
            return logits

    return run


BACKENDS = {
    "eager": Backend((), _eager, ("cpu", "cuda")),
    # A network of this package is many small kernels: without a graph a GPU waits for Python to request them one by one.
    "cuda-graph": Backend((), lambda network, example: GraphRun(_eager(network, example), example), ("cuda",)),
    "inductor": Backend((), _inductor, ("cpu", "cuda")),
    "onnxruntime": Backend(
        ("onnx", "onnxscript", "onnxruntime"),
        lambda network, example: onnxruntime_run(onnx_bytes(network, example)),
    ),
    "openvino": Backend(("openvino",), lambda network, example: OpenVINORun(openvino_model(network, example), example)),
}
