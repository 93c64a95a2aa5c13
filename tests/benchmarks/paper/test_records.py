"""YAML whose scalars are texts: digits are kept, and reading is strict."""

from dataclasses import dataclass

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.paper.records import read_list, read_record, read_records, read_yaml


@dataclass(frozen=True)
class Entry:
    id: str
    values: tuple[str, ...]
    note: str = ""


@pytest.fixture
def write(tmp_path):
    def call(text):
        path = tmp_path / "file.yaml"
        path.write_text(text)
        return path

    return call


def test_every_scalar_is_text(write):
    data = read_yaml(write("schema: 1\na: 80.0\nb: [1e-5, yes, '']\nc: {d: 007}\n"))
    assert data == {"a": "80.0", "b": ["1e-5", "yes", ""], "c": {"d": "007"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 1\na: 1\na: 2\n", "line 3: key 'a' is given twice"),
        ("schema: 1\nb: {c: 1, c: 2}\n", "line 2: key 'c' is given twice"),
        ("schema: 2\n", "schema is '2'; this version reads 1"),
        ("a: 1\n", "schema is None"),
        ("- a\n", "expected a mapping, got list"),
        ("", "expected a mapping, got NoneType"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_is_read_strictly(write, text, words):
    with pytest.raises(InputError, match=rf"file\.yaml: {words}"):
        read_yaml(write(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_yaml(tmp_path / "none.yaml")


def test_a_record_has_texts_and_tuples_of_texts():
    assert read_record({"id": "a", "values": ["1", "2"]}, Entry, "here") == Entry("a", ("1", "2"))
    assert read_records([{"id": "a", "values": [], "note": "n"}], Entry, "here") == [Entry("a", (), "n")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"id": "a"}, "here: missing key 'values'"),
        ({"id": "a", "values": [], "x": "1"}, "here: unknown key 'x'"),
        ({"id": " ", "values": []}, "here: id is ' '; allowed: a non-empty text or number"),
        ({"id": ["a"], "values": []}, r"here: id is \['a'\]"),
        ({"id": "a", "values": "1"}, "here: values is '1'; allowed: a list"),
        ({"id": "a", "values": ["1", ""]}, "here: values is ''"),
    ],
)
def test_a_record_is_read_strictly(data, words):
    with pytest.raises(InputError, match=words):
        read_record(data, Entry, "here")


def test_the_place_of_a_record_is_named():
    with pytest.raises(InputError, match=r"here\[1\]: missing key 'id'"):
        read_records([{"id": "a", "values": []}, {"values": []}], Entry, "here")
    with pytest.raises(InputError, match="here is 'x'; allowed: a list"):
        read_list("x", "here")
