"""Trainings that run out of memory, and errors after which a process cannot use its GPU any more."""

from __future__ import annotations

import gc

import torch

from fbnetv3.search.trial import Outcome

GPU_FULL = (
    "the memory of the GPU was too small for this training; use fewer --trials-per-gpu, a smaller batch_size in the recipe, "
    "smaller images, or --precision bf16"
)
RAM_FULL = "the memory was too small for this training; use fewer --workers, or a smaller batch_size in the recipe"
# What torch, CUDA's runtime, cuBLAS, cuDNN and the CPU's allocator say.
FULL = ("out of memory", "ALLOC_FAILED", "cudaErrorMemoryAllocation", "not enough memory", "allocate memory")
BROKEN = ("CUDA error", "cuDNN error", "an illegal memory access", "device-side assert")


class BrokenDeviceError(RuntimeError):
    """A training broke the GPU's state in this process: every later use of the GPU here would fail.

    Attributes:
        outcome: that of the training.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)  # so that it can be pickled
        self.outcome = outcome


def out_of_memory(error: BaseException) -> str:
    """Return what to do if an error says that memory was too small, or nothing for any other error."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return GPU_FULL
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(words in text for words in FULL)
    ):
        return GPU_FULL if any(name in text for name in ("CUDA", "cuda", "CUBLAS", "CUDNN")) else RAM_FULL
    return ""


def breaks_device(error: BaseException) -> bool:
    """Whether this process must end for the GPU to be usable again. A false alarm costs the start of a process."""
    text = str(error)
    return isinstance(error, RuntimeError) and not out_of_memory(error) and any(words in text for words in BROKEN)


def free_memory() -> bool:
    """Return the memory of a training that has ended to the GPU, for the trials of other processes.

    The answer is whether the GPU still works in this process.
    """
    # The frames of an exception refer to each other in a circle, and hold tensors.
    gc.collect()
    try:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True
