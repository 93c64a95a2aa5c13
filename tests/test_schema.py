"""Mappings become frozen dataclasses, and every mistake names its place."""

import json
import math
from dataclasses import FrozenInstanceError
from typing import Annotated

import pytest
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from fbnetv3 import schema
from fbnetv3.errors import InputError
from fbnetv3.schema import (
    DEEPEST,
    STRICT,
    dump_json,
    dump_yaml,
    find_yaml,
    list_yaml,
    load_json,
    load_yaml,
    parse_json,
    parse_scalar,
    parse_yaml,
    read,
)


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
        (
            {"name": ["x"] * 10**6, "inner": {"rate": 0.5}},
            r"^here: name is \['x', 'x', .*\.\.\.; Input should be a valid s",
        ),
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
    for name in ("q" * 5000, "q" * 5000 + ".yaml", "a\0.yaml"):  # no file can have such a name
        with pytest.raises(InputError, match=r"unknown preset '(q{76}|a)"):
            find_yaml(name, tmp_path, "preset")


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


def bomb(levels: int) -> str:
    """Return YAML of a few lines whose last value is 10 ** levels texts."""
    lines = ["a0: &a0 x", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels + 1))]
    return "\n".join(lines)


BAD_YAML = {
    "not closed": ("[1", "line 1, column 3"),
    "an alias bomb": (bomb(10), "its aliases stand for more than 100,000 values"),
    "a list of itself": ("&a [*a]", "its aliases stand for .*, or for themselves"),
    "no date": ("2020-13-45", "month must be in 1..12"),
    "no number": ("!!int abc", "invalid literal for int"),
    "no text of a number": ("!!int ''", "a value is not what its tag says"),
    "no truth": ("!!bool maybe", "a value is not what its tag says"),
    "no time": ("!!timestamp soon", "a value is not what its tag says"),
    "5,000 digits": ("9" * 5000, "a number has 5000 digits; at most 1000"),
    "2,000 groups of digits": ("1:" * 2000 + "1", "a number has 4001 digits; at most 1000"),
    "3,000 brackets": ("[" * 3000, "more than 100 levels deep"),
    "3,000 mappings": ("{a: " * 3000, "more than 100 levels deep"),
    "an object": ("!!python/object/apply:os.system [exit]", "could not determine a constructor"),
    "two documents": ("a\n---\nb", "expected a single document"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_bad_yaml_is_one_short_line(case, tmp_path):
    text, message = BAD_YAML[case]
    path = tmp_path / "a.yaml"
    path.write_text(text)
    readers = (
        (lambda: parse_yaml(text, "here"), f"^here: .*{message}"),
        (lambda: load_yaml(path, "preset"), f"a.yaml is no preset, or is damaged: .*{message}"),
        (lambda: parse_scalar(text), "is no value; give a number, true, false or a word$"),
    )
    for reader, expected in readers:
        with pytest.raises(InputError, match=expected) as caught:
            reader()
        assert len(str(caught.value)) < 400
        assert "\n" not in str(caught.value)


BAD_JSON = {
    "not closed": ("[1", "delimiter: line 1 column 3"),
    "200,000 brackets": ("[" * 200_000, "more than 100 levels deep"),
    "101 brackets": ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "more than 100 levels deep"),
    "5,000 digits": ("9" * 5000, "4300 digits"),
    "no number": ("[NaN]", "NaN is no number in JSON"),
    "no finite number": ("[-Infinity]", "-Infinity is no number in JSON"),
    "a number without end": ("[1e999]", "the number 1e999 is too large"),
    "nothing": ("", "Expecting value"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_one_short_line(case, tmp_path):
    text, message = BAD_JSON[case]
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=f"^here: .*{message}") as caught:
        parse_json(text, "here")
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match=f"a.json is no ledger, or is damaged: .*{message}"):
        load_json(tmp_path / "a.json", "ledger")


def test_good_texts_are_read(tmp_path):
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}", "here") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }
    assert parse_yaml(bomb(4), "here")["a1"] == ["x"] * 10
    assert parse_json("[" * DEEPEST + "]" * DEEPEST, "here")
    assert parse_json("[1e-5, 2, null]", "here") == [1e-5, 2, None]
    assert str(parse_json("[NaN, 1e999]", "here", nan=True)) == "[nan, inf]"
    for name, reader in (("a.yaml", load_yaml), ("a.json", load_json)):
        (tmp_path / name).write_text('\ufeff{"ä": 1}', encoding="utf-8")  # Windows' editors write this mark
        assert reader(tmp_path / name, "preset") == {"ä": 1}


def test_a_file_without_end_is_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(schema, "MOST_YAML", 100)
    (tmp_path / "a.yaml").write_text("x" * 101)
    with pytest.raises(InputError, match=r"a\.yaml is no preset: it has more than 100 bytes"):
        load_yaml(tmp_path / "a.yaml", "preset")
    with pytest.raises(InputError, match=r"cannot read the preset .*: Is a directory"):
        load_json(tmp_path, "preset")


def test_written_json_has_null_where_a_number_is_not_finite():
    data = {"a": [1, math.nan, (math.inf, "NaN")], "b": {"c": -math.inf, "d": None, "e": True}}
    text = dump_json(data)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1, None, [None, "NaN"]],
        "b": {"c": None, "d": None, "e": True},
    }


def test_written_yaml_keeps_the_order_and_short_rows_on_one_line():
    assert dump_yaml({"b": 1, "a": [{"k": 3, "c": 8}]}) == "b: 1\na:\n- {k: 3, c: 8}\n"
