"""Every test file that loads ONNX Runtime, OpenVINO or ExecuTorch runs in a process of its own.

One process that had compiled networks and exported to ExecuTorch, then to ONNX, ended in a segmentation fault of a library.
"""

import os
import subprocess
import sys

import pytest

from tests.conftest import INSIDE, RUNTIMES
from tests.places import ROOT

LONG = (  # half a minute each, and the page of the documentation several
    "inference/test_export.py",
    "inference/test_optimize.py",
    "inference/test_quantization.py",
    "inference/test_runtimes.py",
    "whole/test_docs_of_runtimes.py",
)


def run(file, marks):
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", marks, f"tests/{file}"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {INSIDE: "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=pytest.mark.slow) if file in LONG else file for file in RUNTIMES]
)
def test_in_a_process_of_its_own(file):
    run(file, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [file for file in RUNTIMES if "pytest.mark.slow" in (ROOT / "tests" / file).read_text()]
)
def test_slow_ones_in_a_process_of_their_own(file):
    run(file, "slow")
