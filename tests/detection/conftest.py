"""Files that the tests of detectors share."""

import pytest

from tests.detection import coco_data


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The pair file of `coco_data.ARCH`."""
    return coco_data.pair_file(tmp_path_factory.mktemp("pair") / "tiny.yaml")


@pytest.fixture
def data(tmp_path):
    """A folder with `coco_data.write_data`'s files, the test's own."""
    coco_data.write_data(tmp_path / "data")
    return tmp_path / "data"
