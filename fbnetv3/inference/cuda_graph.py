"""A call recorded as a CUDA graph: the GPU then runs all kernels of the call without waiting for Python to request each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fbnetv3.inference.runtimes import Output, Run

WARM_UP = 3  # calls before the recording: in them libraries choose algorithms and take memory, which a graph cannot do


def record(call: Callable[[], Any], device: torch.device, calls: int = 1) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return the CUDA graph of a call, and the call's result. The graph's `replay` writes into that result.

    Args:
        calls: how often the graph repeats the call. The result is that of the last one.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.no_grad():
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                call()
        torch.cuda.current_stream(device).wait_stream(stream)
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(calls):
                result = call()
    return graph, result


class GraphRun:
    """A function whose calls on images of the example's shape replay a CUDA graph. Other shapes run without a graph.

    The graph has its own input and output, so several threads take turns. They must use the same CUDA stream.
    """

    def __init__(self, run: Run, example: Tensor) -> None:
        self.run = run
        self.lock = threading.Lock()
        self.images = example.detach().clone(memory_format=torch.channels_last)
        self.graph, self.output = record(lambda: run(self.images), example.device)

    def __call__(self, images: Tensor) -> Output:
        """Map images to logits or feature maps."""
        if images.shape != self.images.shape:
            out: Output = self.run(images)
            return out
        with self.lock:
            self.images.copy_(images.detach())
            self.graph.replay()
            # Copies, because the next call writes into the graph's output.
            return self.output.clone() if isinstance(self.output, Tensor) else [part.clone() for part in self.output]
