"""The fastest way to run a network on this CPU, with the same logits: other runtimes where installed, or torch alone."""

from __future__ import annotations

import functools
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fbnetv3.errors import InputError
from fbnetv3.inference.export import frozen_copy, onnx_bytes, openvino_model
from fbnetv3.inference.fusion import fold_batch_norms, fuse_network
from fbnetv3.inference.runtimes import TOLERANCE, OpenVINORun, Run, onnxruntime_run, relative_difference, require

logger = logging.getLogger(__name__)

ROUNDS = 7  # of the timing that `auto` chooses by


@dataclass(frozen=True)
class Backend:
    """`build(network, example)` of a frozen copy of the network gives a function from images to logits."""

    needs: tuple[str, ...]  # modules that must be importable
    build: Callable[[nn.Module, Tensor], Run]


@dataclass(frozen=True, eq=False, repr=False)
class OptimizedModel:
    """A network for inference alone: call it with float32 images [N, C, H, W], any N, on the CPU.

    It runs with the number of threads that torch had when it was made.
    """

    backend: str
    run: Run
    image: tuple[int, ...]  # (C, H, W)
    threads: int
    seconds: Mapping[str, float] = field(default_factory=dict)  # median call of each candidate, when `auto` chose

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes].

        Raises:
            InputError: images of another size or type than the example's.
        """
        if tuple(images.shape[1:]) != self.image or images.dtype != torch.float32 or images.device.type != "cpu":
            given = f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)} on {images.device}"
            raise InputError(f"images are {given}; optimized for float32 [N, {', '.join(map(str, self.image))}] on cpu")
        return self.run(images)

    def __repr__(self) -> str:
        tried = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in self.seconds.items())
        how = f"; fastest of: {tried}" if tried else ""
        return f"OptimizedModel({self.backend}, threads={self.threads}, image={list(self.image)}{how})"


def optimize_for_inference(model: nn.Module, example: Tensor, backend: str = "auto") -> OptimizedModel:
    """Make a copy of `model`, in eval mode, that gives the same float32 logits faster here; `model` is left alone.

    `auto` builds the backends of `BACKENDS` that are installed, apart from inductor, which compiles for minutes, and takes
    the one that is fastest on the example; building takes seconds to some ten seconds. `eager` needs torch alone.

    Args:
        example: float32 images [N, C, H, W]. Other batch sizes work too; this one is the fastest.
        backend: `auto`, or a key of `BACKENDS`.

    Raises:
        InputError: unknown backend, a library that is not installed, an example that the network does not take, or
            logits that differ by more than `fbnetv3.inference.runtimes.TOLERANCE` of the largest.
    """
    if backend not in ("auto", *BACKENDS):
        raise InputError(f"unknown backend {backend!r}; available: auto, {', '.join(BACKENDS)}")
    network = frozen_copy(model, example)
    if backend != "auto":
        return _optimized(backend, _build(backend, network, example), example)
    runs = {}
    for name in ("eager", "onnxruntime", "openvino"):
        try:
            runs[name] = _build(name, network, example)
        except Exception as error:  # a broken installation of one runtime must not take the others away
            logger.info("backend %s left out: %s", name, error)
    if not runs:
        raise InputError("no backend gives the logits of this network here; run it as it is")
    times = time_calls({name: functools.partial(run, example) for name, run in runs.items()})
    seconds = {name: statistics.median(values) for name, values in times.items()}
    best = min(seconds, key=seconds.__getitem__)
    return _optimized(best, runs[best], example, seconds)


def time_calls(
    runs: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every call, one of each in every round, so that what else the machine does meets all alike.

    A call without the clock goes ahead of each, so that none pays for the caches that the one before it filled.
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
    """Build and check a backend."""
    row = BACKENDS[backend]
    require(row.needs, f"backend {backend!r}")
    run = row.build(frozen_copy(network, example), example)
    with torch.no_grad():
        share = relative_difference(run(example), network(example))
    if share > TOLERANCE:
        raise InputError(
            f"backend {backend!r}: logits differ from the network's by {share:.1e} of the largest; allowed: "
            f"{TOLERANCE:.0e}; use another backend"
        )
    return run


def _optimized(name: str, run: Run, example: Tensor, seconds: Mapping[str, float] | None = None) -> OptimizedModel:
    return OptimizedModel(name, run, tuple(example.shape[1:]), torch.get_num_threads(), seconds or {})


def _eager(network: nn.Module, example: Tensor) -> Run:
    network = fuse_network(network, example)

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    return run


def _inductor(network: nn.Module, example: Tensor) -> Run:
    from torch._inductor import config as inductor

    fold_batch_norms(network)
    compiled = torch.compile(network)

    def run(images: Tensor) -> Tensor:
        # Around the call, as the tracer reads it too and a new batch size compiles anew; as an option it has no effect.
        with torch.no_grad(), inductor.patch(freezing=True):
            return compiled(images)  # type: ignore[no-any-return]

    return run


BACKENDS = {
    "eager": Backend((), _eager),
    "inductor": Backend((), _inductor),
    "onnxruntime": Backend(
        ("onnx", "onnxscript", "onnxruntime"),
        lambda network, example: onnxruntime_run(onnx_bytes(network, example)),
    ),
    "openvino": Backend(("openvino",), lambda network, example: OpenVINORun(openvino_model(network, example), example)),
}
