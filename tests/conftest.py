"""Tests of other runtimes run in processes of their own: their native libraries crash one another.

Tests of detectors are skipped without detectron2, but not where `FBNETV3_NEED_DETECTRON2` is set: there its absence fails.
"""

import importlib.util
import os

# Two test processes with several threads each would wait for one another. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch reads it once, at the first product of matrices on a GPU. Deterministic trainings would fail after any other test.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest

RUNTIMES = (
    "inference/test_export.py",
    "inference/test_optimize.py",
    "inference/test_quantization.py",
    "inference/test_runtimes.py",
    "benchmarks/speed/test_inference_paths.py",
    "whole/test_docs_of_runtimes.py",
)
INSIDE = "FBNETV3_TEST_RUNTIMES"  # set in those processes
collect_ignore = [] if os.environ.get(INSIDE) else list(RUNTIMES)

NEEDED = "FBNETV3_NEED_DETECTRON2"
if os.environ.get(NEEDED) and importlib.util.find_spec("detectron2") is None:
    raise pytest.UsageError(f"{NEEDED} is set, and detectron2 is not installed")
