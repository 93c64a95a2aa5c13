"""What torch.compile needs for a GPU besides torch: triton, which compiles a little C against Python's headers."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import pytest

FOUND = (
    importlib.util.find_spec("triton"),
    os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"),
    Path(sysconfig.get_paths()["include"], "Python.h").exists(),
)
needs_compiler = pytest.mark.skipif(not all(FOUND), reason="needs triton, a C compiler and Python's headers")
