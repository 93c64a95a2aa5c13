"""Notes point at the line of the caller's code, whatever entry point it uses."""

import warnings

import pytest

from fbnetv3 import build_model
from fbnetv3.errors import Note
from fbnetv3.hub import create_model
from fbnetv3.hub.entrypoints import zoo_entrypoints
from fbnetv3.hub.load import fill
from fbnetv3.hub.notes import note
from fbnetv3.hub.publish import publish_weights
from tests.hub.conftest import TINY, tiny_weights


@pytest.fixture
def zoo(tmp_path):
    publish_weights(tiny_weights(), tmp_path / "zoo", "tiny", licence="MIT")
    return tmp_path / "zoo"


def places(call):
    """Call and return the files and messages of the notes."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert {w.category for w in found} == {Note}
    return [(w.filename, str(w.message)) for w in found]


def test_a_note_without_the_package_in_between():
    assert places(lambda: note("hello")) == [(__file__, "hello")]


@pytest.mark.parametrize("entry", ["create_model", "torch.hub", "fill"])
def test_every_entry_point_points_here(zoo, entry):
    calls = {
        "create_model": lambda: create_model("tiny", True, num_classes=5, zoo=zoo),
        "torch.hub": lambda: zoo_entrypoints(zoo)["tiny"](pretrained=True, num_classes=5),
        "fill": lambda: fill(build_model(TINY, 5, 1), tiny_weights()),
    }
    words = "the classifier of the weights has 3 classes, not 5: the classifier keeps fresh weights"
    assert places(calls[entry]) == [(__file__, words)]
