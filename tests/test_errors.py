"""Strict reading of mappings, and the ends of messages about unknown names."""

from dataclasses import dataclass, field

import pytest

from fbnetv3.errors import InputError, available, check_keys


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
