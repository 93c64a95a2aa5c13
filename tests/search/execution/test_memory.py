"""Trainings that run out of memory, and errors after which a process cannot use its GPU."""

import gc
import weakref

import pytest
import torch

from fbnetv3.search.execution.memory import GPU_FULL, RAM_FULL, breaks_device, free_memory, out_of_memory


class Circle:
    """Refers to itself, as an exception and its frames do."""

    def __init__(self):
        self.itself = self


@pytest.mark.parametrize(
    ("error", "advice", "breaks"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), GPU_FULL, False),
        (RuntimeError("CUDA error: out of memory"), GPU_FULL, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), GPU_FULL, False),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), GPU_FULL, False),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), RAM_FULL, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), RAM_FULL, False),
        (OSError(12, "Cannot allocate memory"), RAM_FULL, False),
        (MemoryError(), RAM_FULL, False),
        (RuntimeError("CUDA error: device-side assert triggered"), "", True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "", True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), "", True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "", True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "", False),
        (ValueError("CUDA error"), "", False),
    ],
    ids=lambda value: str(value)[:40] or "none",
)
def test_what_an_error_means(error, advice, breaks):
    assert (out_of_memory(error), breaks_device(error)) == (advice, breaks)


def test_what_is_in_a_circle_is_freed():
    gc.disable()
    try:
        gone = weakref.ref(Circle())
        assert gone() is not None
        assert free_memory()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("works", [True, False])
def test_a_gpu_that_was_used_is_asked_whether_it_works(monkeypatch, works):
    def empty():
        if not works:
            raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    assert free_memory() is works
