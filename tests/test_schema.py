"""Mappings become frozen dataclasses, and every mistake names its place."""

from dataclasses import FrozenInstanceError
from typing import Annotated

import pytest
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from fbnetv3.errors import InputError
from fbnetv3.schema import STRICT, dump_yaml, find_yaml, list_yaml, load_yaml, parse_scalar, read


@dataclass(frozen=True, config=STRICT)
class Inner:
    rate: Annotated[float, Field(ge=0.0)]


@dataclass(frozen=True, config=STRICT)
class Outer:
    name: str
    inner: Inner
    size: int = 1

    @model_validator(mode="after")
    def _agrees(self):
        if self.size < len(self.name):
            raise ValueError(f"size is {self.size}, but the name is longer")
        return self


def test_nested_mappings_are_read():
    found = read(Outer, {"name": "a", "inner": {"rate": 0.5}}, "here", inner=Inner)
    assert found == Outer("a", Inner(0.5))
    assert read(Outer, {"name": "a", "inner": Inner(0.5)}, "here", inner=Inner) == found
    with pytest.raises(FrozenInstanceError):
        found.size = 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "inner": {"rate": -1.0}}, r"^here: inner: rate is -1\.0; Input should be greater"),
        ({"name": "a", "inner": {"rate": "1e-5"}}, "rate is '1e-5'; .*; YAML reads 1e-5 as text, write 1.0e-5"),
        ({"name": "a", "inner": {"rate": "much"}}, "rate is 'much'; Input should be a valid number$"),
        ({"name": 3, "inner": {"rate": 0.5}}, "^here: name is 3; Input should be a valid string"),
        ({"name": "a", "inner": {"rate": 0.5}, "size": 2.0}, r"^here: size is 2\.0; "),
        ({"name": "abc", "inner": {"rate": 0.5}}, "^here: size is 1, but the name is longer$"),
        ({"name": "a"}, "^here: missing key 'inner'"),
        ({"name": "a", "inner": {"rate": 0.5, "x": 1}}, "^here: inner: unknown key 'x'"),
    ],
)
def test_mistakes_name_place_key_and_value(data, message):
    with pytest.raises(InputError, match=message):
        read(Outer, data, "here", inner=Inner)


def test_yaml_files_by_name_and_by_path(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text("x: 1")
    (tmp_path / "c.txt").write_text("x: 1")
    assert list_yaml(tmp_path) == ["a", "b"]
    assert find_yaml("a", tmp_path, "preset") == tmp_path / "a.yaml"
    assert find_yaml(str(tmp_path / "b.yaml"), tmp_path / "other", "preset") == tmp_path / "b.yaml"
    with pytest.raises(InputError, match=r"unknown preset 'q'; .*a, b, or the path of a \.yaml file, or none"):
        find_yaml("q", tmp_path, "preset", ", or none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "holds list, not a mapping"),
        (b"a: [1\n", "is no preset, or is damaged: "),
        (b"\xff\xfe\x00", "is no preset, or is damaged: "),
        (None, "cannot read the preset .*: No such file or directory; give the path of one"),
    ],
)
def test_files_that_hold_no_mapping(tmp_path, content, message):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_yaml(path, "preset")
    assert "\n" not in str(caught.value)


def test_keys_are_texts(tmp_path):
    (tmp_path / "file.yaml").write_text("1: a\n2.5: b\n")
    assert load_yaml(tmp_path / "file.yaml", "preset") == {"1": "a", "2.5": "b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("3", 3), ("0.5", 0.5), ("true", True), ("cosine", "cosine"), ("null", None), ("'3'", 3.0)],
)
def test_a_value_is_what_it_looks_like(text, value):
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


def test_a_value_that_is_no_yaml():
    with pytest.raises(InputError, match=r"'\[1' is no value; give a number, true, false or a word"):
        parse_scalar("[1")


def test_written_yaml_keeps_the_order_and_short_rows_on_one_line():
    assert dump_yaml({"b": 1, "a": [{"k": 3, "c": 8}]}) == "b: 1\na:\n- {k: 3, c: 8}\n"
