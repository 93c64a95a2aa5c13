"""Tests of other runtimes run in processes of their own (test_runtimes.py): their native libraries crash one another."""

import os

RUNTIMES = ("test_export.py", "test_inference.py", "test_quantize.py", "benchmarks/test_inference.py")
INSIDE = "FBNETV3_TEST_RUNTIMES"  # set in those processes
collect_ignore = [] if os.environ.get(INSIDE) else list(RUNTIMES)
