"""Strict reading of mappings, and the ends of messages about unknown names."""

from dataclasses import dataclass, field

import pytest

from fbnetv3.errors import QUOTED, InputError, available, check_keys, quote


@dataclass
class Row:
    name: str
    size: int = 1
    tags: list = field(default_factory=list)


def test_a_good_mapping_is_copied():
    data = {"name": "a", "tags": []}
    found = check_keys(data, Row, "here")
    assert found == data
    assert found is not data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], r"^here: expected a mapping, got list \[1\]$"),
        ({"name": "a", "colour": 1}, r"^here: unknown key 'colour'; available: name, size, tags$"),
        ({"name": "a", "sise": 1}, r"^here: unknown key 'sise'; did you mean 'size'\? Available: name, size, tags$"),
        ({"size": 2}, r"^here: missing key 'name'; given: size$"),
        ({}, r"^here: missing key 'name'; given: nothing$"),
    ],
)
def test_a_bad_mapping_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        check_keys(data, Row, "here")


def test_a_mistake_of_the_user_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_a_short_list_is_given_in_full():
    assert available("x", ["one", "two"]) == "available: one, two"
    assert available("x", ["one", "two"], ", or a path") == "available: one, two, or a path"
    assert available(3, ["one"]) == "available: one"


def test_of_a_long_list_only_the_nearest_names_are_given():
    names = [f"network_{i:02d}" for i in range(30)]
    assert available("network_7", names).startswith("did you mean 'network_")
    assert available("zzz", names, command="fbnetv3 models") == "`fbnetv3 models` lists all 30"
    assert available("zzz", names).endswith("network_28, network_29")


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, -3, "a'b\n", b"\xff", [], [1, "x", (2,)], (), (1,), (1, 2), {}, {"a": {"b": [1]}, 2: None}, {1}],
)
def test_a_short_value_is_quoted_as_python_writes_it(value):
    assert quote(value) == repr(value)


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, list(range(10**6)), {"a": "x" * 100}, [["x" * 100]], set(range(100))]
)
def test_a_long_value_is_cut(value):
    assert quote(value) == repr(value)[: QUOTED - 3] + "..."


def test_a_value_without_end_is_cut():
    bomb = endless = []
    endless.append(endless)
    for _ in range(5000):
        bomb = [bomb] * 10
    assert quote(endless) == quote(bomb) == "[" * (QUOTED - 3) + "..."
    assert quote(10**5000) == "a whole number of 16610 bits"  # Python itself refuses to print it


def test_messages_about_keys_are_short():
    for data in ({"x" * 10**6: 1}, ["x" * 10**6]):
        with pytest.raises(InputError) as caught:
            check_keys(data, Row, "here")
        assert len(str(caught.value)) < 200
