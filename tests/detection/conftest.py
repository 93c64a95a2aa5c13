"""Files that the tests of detectors share."""

import pytest

from tests.detection import coco_data


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """The pair file of `coco_data.ARCH`."""
    return coco_data.pair_file(tmp_path_factory.mktemp("pair") / "tiny.yaml")


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    """A folder with `coco_data.write_data`'s files, for tests that only read it."""
    folder = tmp_path_factory.mktemp("data")
    coco_data.write_data(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """A folder with `coco_data.write_data`'s files, which the test may change."""
    coco_data.write_data(tmp_path / "data")
    return tmp_path / "data"
