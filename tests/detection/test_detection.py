"""The public names of the package: what needs detectron2, what does not, and what the error says without it."""

import json
import subprocess
import sys

import pytest

from fbnetv3 import detection
from tests.places import ROOT

WITHOUT = """
import json, sys
sys.modules["detectron2"] = None
from fbnetv3 import detection
found = {}
for name in detection.__all__:
    try:
        getattr(detection, name)
        found[name] = ""
    except detection.InputError as error:
        found[name] = str(error)
print(json.dumps([found, [name for name in sys.modules if name.startswith("detectron2.")]]))
"""


def test_without_detectron2_torchvisions_model_works_and_the_other_names_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True)
    found, imported = json.loads(done.stdout)
    assert {name for name, error in found.items() if not error} == {"faster_rcnn", "need_detectron2"}
    assert imported == []
    for error in filter(None, found.values()):
        assert "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2" in error
        assert "\n" not in error


def test_every_public_name_is_there():
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")
    assert all(getattr(detection, name) is not None for name in detection.__all__)
    assert set(detection.__all__) <= set(dir(detection))
