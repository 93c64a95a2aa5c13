"""One folder of images for all tests of a module."""

import pytest

from tests.training.data.examples import make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("set") / "animals")
