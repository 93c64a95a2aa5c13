"""The plugin prints one line for the list of tests and one for every test that ends."""

import json
import subprocess
import sys

from fbnetv3.benchmarks.gpu.recorder import MARK
from tests.places import ROOT

TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="not here")
def test_is_skipped():
    pass

def test_fails():
    assert 1 == 2

@pytest.fixture
def broken():
    yield
    raise RuntimeError("cannot clean up")

def test_ends_badly(broken):
    pass
"""


def test_lines(tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_wrong.py").write_text("import nothing_of_this_name")
    command = [sys.executable, "-m", "pytest", "-p", "fbnetv3.benchmarks.gpu.recorder", "-q", "-c", "/dev/null"]
    command += ["--rootdir", str(tmp_path), "--continue-on-collection-errors", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
    wrong, collected, passed, skipped, failed, good, bad = rows
    assert wrong["outcome"] == "failed"
    assert "nothing_of_this_name" in wrong["text"]
    assert [name.partition("::")[2] for name in collected["collected"]] == [
        "test_passes",
        "test_is_skipped",
        "test_fails",
        "test_ends_badly",
    ]
    assert passed["outcome"] == "passed"
    assert (skipped["outcome"], skipped["text"]) == ("skipped", "not here")
    assert failed["outcome"] == "failed"
    assert "assert 1 == 2" in failed["text"]
    assert good["outcome"] == "passed"
    assert (bad["test"], bad["outcome"]) == (good["test"], "failed")
    assert "cannot clean up" in bad["text"]
