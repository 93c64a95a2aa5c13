"""The table file: what is written is read, without running code, and anything else is refused."""

import dataclasses
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.space import table_archive as module
from fbnetv3.search.space.space import Coordinate
from fbnetv3.search.space.table import TableSpace
from fbnetv3.search.space.table_archive import read_archive, write_archive

NAN = float("nan")
TABLE = TableSpace(
    name="mine",
    about="some data",
    in_chans=3,
    num_classes=4,
    coordinates=(
        Coordinate("units", (16, 64), True, True, (16, 64), True),
        Coordinate("act", ("relu", "tanh"), False, True, ("relu", "tanh")),
        Coordinate("drop", (0.0, 0.5), True, False, (0.0, 0.5)),
    ),
    table=np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1]]),
    labels={"flops": np.array([1.0, 2.0, 3.0]), "params": np.array([4.0, 5.0, 6.0]), "ms": np.array([0.5, 0.25, -1.0])},
    acc1=np.array([[[10, 20], [30, NAN]], [[40, 50], [NAN, NAN]], [[NAN, NAN], [60, 70]]]),
    trainings=np.array([2, 1, 2]),
    held_out=True,
    facts={"data": "some data", "licence": "MIT"},
)


@pytest.fixture
def path(tmp_path):
    write_archive(TABLE, tmp_path / "mine.npz")
    return tmp_path / "mine.npz"


def test_a_table_is_read_as_it_was_written(path):
    found = read_archive(path)
    for field in dataclasses.fields(TableSpace):
        before, after = getattr(TABLE, field.name), getattr(found, field.name)
        if isinstance(before, np.ndarray):
            assert np.array_equal(before, after, equal_nan=before.dtype.kind == "f"), field.name
        elif field.name == "labels":
            assert {k: v.tolist() for k, v in before.items()} == {k: v.tolist() for k, v in after.items()}
        else:
            assert before == after, field.name


MORE = dataclasses.replace(
    TABLE,
    test_acc1=TABLE.acc1 / 2,
    seconds=np.array([[1.5, 2.5], [0.0, NAN], [3.0, 4.0]]),
    seeds=np.array([[7, 8], [9, 0], [1, 2]]),
)


def test_test_accuracies_times_and_seeds_are_read_as_they_were_written(tmp_path):
    write_archive(MORE, tmp_path / "more.npz")
    found = read_archive(tmp_path / "more.npz")
    for name in ("test_acc1", "seconds", "seeds"):
        before = getattr(MORE, name)
        assert np.array_equal(getattr(found, name), before, equal_nan=before.dtype.kind == "f")


WRONG_MORE = {
    "other epochs": {"test_acc1": TABLE.acc1[:, ::-1] / 2},
    "another shape": {"test_acc1": TABLE.acc1[:, :1]},
    "above 100": {"test_acc1": TABLE.acc1 * 2},
    "no time": {"seconds": np.array([[1.5, NAN], [0.0, NAN], [3.0, 4.0]])},
    "a negative time": {"seconds": -np.ones((3, 2))},
    "times of other trainings": {"seconds": np.ones((3, 1))},
    "seeds of other trainings": {"seeds": np.ones((2, 2), int)},
}


@pytest.mark.parametrize("arrays", WRONG_MORE.values(), ids=WRONG_MORE)
def test_wrong_test_accuracies_times_and_seeds_are_refused(tmp_path, arrays):
    path = tmp_path / "mine.npz"
    write_archive(MORE, path)
    rewrite(path, **arrays)
    with pytest.raises(InputError, match=r"mine\.npz is no table file, or it is damaged: .*search table convert"):
        read_archive(path)


def test_the_same_table_is_the_same_file(path, tmp_path):
    write_archive(read_archive(path), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def rewrite(path, meta=(), **arrays):
    """Write the file again with other arrays, or other entries of its description."""
    with np.load(path) as file:
        found = dict(file)
    text = json.loads(found["meta"].tobytes()) | dict(meta)
    found["meta"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(path, **{name: array for name, array in (found | arrays).items() if array is not None})


COORDINATE = {"name": "units", "values": [16, 64], "ordered": True, "arch": True, "log": True}
REST = [
    {"name": "act", "values": ["relu", "tanh"], "ordered": False, "arch": True, "log": False},
    {"name": "drop", "values": [0.0, 0.5], "ordered": True, "arch": False, "log": False},
]
OF_META = {
    "another schema": {"schema": 2},
    "an unknown entry": {"x": 1},
    "a name that is no text": {"name": 3},
    "no class": {"classes": 0},
    "a fact that is no text": {"facts": {"data": 1}},
    "no params": {"labels": ["flops", "ms", "x"]},
    "a label twice": {"labels": ["flops", "params", "flops"]},
    "no coordinate": {"coordinates": []},
    "a coordinate twice": {"coordinates": [COORDINATE, COORDINATE, COORDINATE]},
    "a value twice": {"coordinates": [COORDINATE | {"values": [16, 16]}, *REST]},
    "values out of order": {"coordinates": [COORDINATE | {"values": [64, 16]}, *REST]},
    "texts in order": {"coordinates": [COORDINATE | {"values": ["a", "b"]}, *REST]},
    "a logarithm of 0": {"coordinates": [COORDINATE | {"values": [0, 16]}, *REST]},
    "an unknown field": {"coordinates": [COORDINATE | {"x": 1}, *REST]},
    "a truth for a number": {"coordinates": [COORDINATE | {"values": [False, True]}, *REST]},
    "too few coordinates": {"coordinates": [COORDINATE]},
}
OF_ARRAYS = {
    "no labels": {"labels": None},
    "one more": {"x": np.zeros(1)},
    "objects": {"acc1": np.array([[[None]]])},
    "texts": {"trainings": np.array(["1", "2", "3"])},
    "a value that is not there": {"index": np.array([[0, 0, 0], [1, 1, 1], [2, 0, 1]])},
    "a negative index": {"index": np.array([[0, 0, 0], [1, 1, 1], [-1, 0, 1]])},
    "fractions as indices": {"index": TABLE.table + 0.5},
    "a row twice": {"index": np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1]])},
    "another number of rows": {"trainings": np.array([2, 1])},
    "no training": {"trainings": np.array([2, 0, 2])},
    "too many trainings": {"trainings": np.array([2, 1, 3])},
    "fewer trainings than acc1": {"trainings": np.array([1, 1, 2])},
    "no FLOPs": {"labels": np.array([[0, 4, 1], [2, 5, 1], [3, 6, 1]])},
    "half a parameter": {"labels": np.array([[1, 4.5, 1], [2, 5, 1], [3, 6, 1]])},
    "an infinite label": {"labels": np.array([[1, 4, np.inf], [2, 5, 1], [3, 6, 1]])},
    "above 100": {"acc1": TABLE.acc1 * 2},
    "infinite": {"acc1": TABLE.acc1 * np.inf},
    "a gap in a curve": {"acc1": TABLE.acc1[:, :, ::-1]},
    "no epoch": {"acc1": TABLE.acc1[:, :, :0]},
}


@pytest.mark.parametrize("meta", OF_META.values(), ids=OF_META)
def test_a_wrong_description_is_refused(path, meta):
    rewrite(path, meta)
    with pytest.raises(InputError, match=r"mine\.npz"):
        read_archive(path)


@pytest.mark.parametrize("arrays", OF_ARRAYS.values(), ids=OF_ARRAYS)
def test_wrong_arrays_are_refused(path, arrays):
    rewrite(path, **arrays)
    with pytest.raises(InputError, match=r"mine\.npz is no table file, or it is damaged: .*search table convert"):
        read_archive(path)


def test_a_file_that_is_cut_or_changed_anywhere_is_refused_or_equal(path):
    content = path.read_bytes()
    for i in range(0, len(content), 7):
        path.write_bytes(content[:i])
        with pytest.raises(InputError):
            read_archive(path)
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        try:
            found = read_archive(path)
        except InputError:
            continue
        # Some bytes of a zip archive, such as those of dates, mean nothing.
        assert found.table.tolist() == TABLE.table.tolist()
        assert np.array_equal(found.acc1, TABLE.acc1, equal_nan=True)


def test_no_code_is_run(path):
    class Evil:
        def __reduce__(self):
            return open, (str(path.parent / "owned"), "w")

    array = io.BytesIO()
    np.lib.format.write_array(array, np.array([Evil()], object))
    for content in (pickle.dumps(Evil()), array.getvalue()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no table file"):
            read_archive(path)
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("meta", "index", "trainings", "labels", "acc1"):
                archive.writestr(f"{name}.npy", content)
        with pytest.raises(InputError, match="is no table file"):
            read_archive(path)
    assert not (path.parent / "owned").exists()


def test_a_file_that_would_unpack_to_too_much_is_refused(path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="it has more than 100 bytes"):
        read_archive(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the table .*absent\.npz: No such file"):
        read_archive(tmp_path / "absent.npz")
